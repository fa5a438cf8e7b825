"""What a demo has checked, said line by line, and what it has left behind."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from tests.up_command import UpCommand


class Findings:
    """What was checked, and whether all of it held."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def check(self, holds: bool, claim: str) -> None:
        """Print a claim with a tick, or with a cross and remember it."""
        print(f"  {'✓' if holds else '✗'} {claim}", flush=True)
        if not holds:
            self.wrong.append(claim)

    def exit_code(self) -> int:
        """Print the verdict on all of it and return the exit code."""
        say(f"\n{'all is well' if not self.wrong else 'WRONG: ' + '; '.join(self.wrong)}")
        return 1 if self.wrong else 0


def say(line: str) -> None:
    """Print a line at once, also where stdout is no terminal."""
    print(line, flush=True)


def check_leftovers(up: UpCommand, folder: Path, findings: Findings) -> None:
    """Look for processes, ports and files that outlived the command."""
    say("\nleft behind")
    pids = up.left_processes()
    findings.check(not pids, f"processes: {pids or 'none'} of {len(up.seen_pids)}")
    addresses = [up.deployment["url"]]
    for pod in up.deployment["pods"]:
        addresses += [pod["inferenceUrl"], pod["managementUrl"]]
    ports = [urlsplit(url).port for url in addresses if url and is_open(url)]
    findings.check(not ports, f"ports: {ports or 'none'} of {len(addresses)}")
    files = [path.relative_to(folder) for path in (folder / "tmp").rglob("*")]
    findings.check(not files, f"files: {list(map(str, files)) or 'none'}")


def is_open(url: str) -> bool:
    """Return whether somebody still listens there."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True
