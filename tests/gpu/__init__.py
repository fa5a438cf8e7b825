"""What only a real GPU can show; see tests/gpu/README.md."""
