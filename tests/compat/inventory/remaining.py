"""What a drop-in for TorchServe still lacks, by name: tests hold that there is nothing else."""

from __future__ import annotations

MISSING_ON_PURPOSE = frozenset({"5-parallel", "5-torchrun", "12-kserve-image"})
"""Rows of importance must or should that are not there in this release."""
