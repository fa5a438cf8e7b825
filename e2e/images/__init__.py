"""Our images, built on one machine: `make images`."""
