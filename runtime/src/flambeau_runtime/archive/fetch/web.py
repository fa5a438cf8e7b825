"""Archives of a web server that asks who one is."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

from flambeau_runtime.archive.download import Download
from flambeau_runtime.archive.fetch.credentials import Login
from flambeau_runtime.archive.fetch.order import Order
from flambeau_runtime.archive.partial import OnBytes
from flambeau_runtime.archive.sources import Remote


def download(order: Order, on_bytes: OnBytes) -> Path:
    """Bring the archive to the order's target, as `username` with `password`, or with a `token`."""
    target = Path(order.target)
    headers = _headers()
    Download(
        Remote(order.uri, order.shown),
        target,
        on_bytes,
        Event(),
        headers=lambda: headers,
        pauses_s=order.pauses_s,
    ).run()
    return target


def _headers() -> dict[str, str]:
    if "FLAMBEAU_USERNAME" in os.environ:
        login = Login(os.environ["FLAMBEAU_USERNAME"], os.environ.get("FLAMBEAU_PASSWORD", ""))
        return {"Authorization": login.header}
    if token := os.environ.get("FLAMBEAU_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    return {}
