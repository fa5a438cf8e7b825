"""Where TorchServe kept the helpers that handlers of older releases import."""
