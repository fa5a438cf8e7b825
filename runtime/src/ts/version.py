"""The release of TorchServe whose behaviour this package stands in for; not our own version."""

__version__ = "0.12.0"
