"""TorchServe's handler classes, by the names third-party handlers import."""
