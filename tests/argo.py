"""Argo CD's reading of an object: our health script, run as Argo CD runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lupa.lua51 import LuaRuntime

SCRIPT = Path(__file__).parents[1] / "charts" / "flambeau" / "argocd" / "health.lua"
# Argo CD gives a script the base and table libraries alone, unless it is told to trust it more.
WITHHELD = ("string", "io", "os", "math", "package", "require", "coroutine", "debug", "python")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Argo CD shows: `Healthy`, `Progressing`, `Degraded`, `Suspended`, and why."""

    status: str
    message: str


def health(body: Mapping[str, Any]) -> Verdict:
    """Return what the script says of an object."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.execute('getmetatable("").__index = nil')
    names = lua.globals()
    for name in WITHHELD:
        names[name] = None
    names.obj = lua.table_from(body, recursive=True)
    told = lua.execute(SCRIPT.read_text())
    return Verdict(told.status, told.message)
