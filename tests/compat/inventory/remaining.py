"""What a drop-in for TorchServe still lacks, by name: tests hold that there is nothing else."""

from __future__ import annotations

OPEN_SECTIONS = frozenset(
    {"1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4", "2.5", "3", "4.1", "4.2", "4.3"}
    | {"4.4", "4.5", "5", "6", "7.1", "7.2", "7.3", "7.4", "10", "11", "12", "15"}
    | {"9"}
)
"""Sections that may still have rows in the state `open`."""

MISSING_ON_PURPOSE = frozenset({"5-parallel", "5-torchrun", "12-kserve-image"})
"""Rows of importance must or should that are not there in this release."""
