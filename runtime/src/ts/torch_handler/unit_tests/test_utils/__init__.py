"""For the unit tests of third-party handlers."""
