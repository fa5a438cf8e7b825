"""The module names that third-party handlers import: installed in TorchServe's place."""

from ts.version import __version__

__all__ = ["__version__"]
