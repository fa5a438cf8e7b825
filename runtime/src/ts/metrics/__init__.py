"""TorchServe's metrics API, by the names third-party handlers import."""
