"""What TorchServe 0.12 does, row by row, and how this runtime stands to each row."""
