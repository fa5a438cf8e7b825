"""`python -m flambeau_runtime.archive.fetch`: one order comes in, events go out.

The only process that has credentials in its hands. It ends with the one that started it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from flambeau_runtime.archive.fetch import credentials
from flambeau_runtime.archive.fetch.credentials import Secrets
from flambeau_runtime.archive.fetch.guard import keep_away_from_metadata
from flambeau_runtime.archive.fetch.order import FAULTS, Arrived, Failed, Order, Progress
from flambeau_runtime.archive.fetch.ranged import Open, RangedDownload, fault_of
from flambeau_runtime.archive.partial import OnBytes
from flambeau_runtime.errors import DigestMismatch, RuntimeFault, SourceNotFound, SourceUnavailable

PROGRESS_EVERY_S = 0.1
LONGEST_MESSAGE = 2000

AMBIENT = {
    # Who asks the machine's own service for credentials is refused anyway; so it is not tried.
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_GCE_CHECK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def main() -> int:
    """Carry out one order; the exit status says nothing that the events do not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started us, and ends us too
    order = Order.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = Teller(_claim_output())
    keep_away_from_metadata()
    hidden = Secrets(())
    try:
        if order.credentials is not None:
            os.environ.update(credentials.read_folder(Path(order.credentials)))
        hidden = Secrets.of(os.environ)
        _settle_environment()
        told.arrived(fetch(order, told.on_bytes))
    except DigestMismatch as mismatch:
        told.failed(mismatch)
    except RuntimeFault as fault:
        told.failed(_without(hidden, fault))
    except Exception as error:  # noqa: BLE001  whatever a library raises is told, without secrets
        told.failed(_without(hidden, fault_of(error, order.shown)))
    return 0


def _without(hidden: Secrets, fault: RuntimeFault) -> RuntimeFault:
    kind = next((each for each in FAULTS if isinstance(fault, each)), SourceUnavailable)
    return kind(hidden.hide_in(str(fault))[:LONGEST_MESSAGE])


def fetch(order: Order, on_bytes: OnBytes) -> Path:
    """Bring what is ordered; return the archive or the directory.

    Raises:
        RuntimeFault: it did not come.
    """
    scheme = order.uri.partition("://")[0].lower()
    match scheme:
        case "s3" | "gs" | "az":
            return RangedDownload(order, _opener(scheme), on_bytes).run()
        case "hf":
            from flambeau_runtime.archive.fetch.hub import HubDownload  # noqa: PLC0415  each its own

            return HubDownload(order, on_bytes).run()
        case "oci":
            from flambeau_runtime.archive.fetch.registry import RegistryDownload  # noqa: PLC0415

            return RegistryDownload(order, on_bytes).run()
        case "http" | "https":
            from flambeau_runtime.archive.fetch import web  # noqa: PLC0415

            return web.download(order, on_bytes)
        case _:
            raise SourceNotFound(f"Model not found at: {order.shown}")


def _opener(scheme: str) -> Open:
    from flambeau_runtime.archive.fetch import az, gs, s3  # noqa: PLC0415  none needs its library yet

    return {"s3": s3.open_object, "gs": gs.open_object, "az": az.open_object}[scheme]


class Teller:
    """Writes events, progress not too often."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._told_at = 0.0

    def on_bytes(self, have: int, total: int | None) -> None:
        """Tell how far it is."""
        now = time.monotonic()
        if have == total or now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            self._say(Progress(have, total).to_json())

    def arrived(self, path: Path) -> None:
        """Tell that it is there."""
        self._say(Arrived(path).to_json())

    def failed(self, fault: RuntimeFault) -> None:
        """Tell that it did not come."""
        self._say(Failed(fault).to_json())

    def _say(self, line: str) -> None:
        self._output.write(f"{line}\n")
        self._output.flush()


def _claim_output() -> TextIO:
    """Take standard output for the events: what libraries print goes elsewhere."""
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return ours


def _settle_environment() -> None:
    """Have every library trust what SSL_CERT_FILE names, and ask no metadata service."""
    trusted = os.environ.get("SSL_CERT_FILE")
    if trusted:
        os.environ.setdefault("AWS_CA_BUNDLE", trusted)
        os.environ.setdefault("REQUESTS_CA_BUNDLE", trusted)
    os.environ.update(AMBIENT)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)  # a library's threads would hold up a gentler end


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # likewise
