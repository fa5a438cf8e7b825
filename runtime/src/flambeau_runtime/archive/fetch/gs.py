"""Objects of Google Cloud Storage, through gcsfs.

GOOGLE_APPLICATION_CREDENTIALS names the key of a service account, or a federation's
configuration; without it, it asks as nobody. STORAGE_EMULATOR_HOST names another endpoint.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from flambeau_runtime.archive.fetch.extras import need, split
from flambeau_runtime.archive.fetch.ranged import Changed, Content


@asynccontextmanager
async def open_object(uri: str) -> AsyncIterator[Content]:
    """Open gs://BUCKET/KEY."""
    # The plain JSON API: no question about the kind of bucket before each part.
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    gcsfs = need("gcsfs", "gs")
    bucket, key = split(uri, "BUCKET/KEY")
    known = "GOOGLE_APPLICATION_CREDENTIALS" in os.environ
    filesystem = gcsfs.GCSFileSystem(
        token="google_default" if known else "anon",
        access="read_only",
        version_aware=True,
        asynchronous=True,
        skip_instance_cache=True,
    )
    # Its own row of six tries would take half a minute and keep nothing of what has come.
    filesystem._request = partial(type(filesystem)._request.__wrapped__, filesystem)  # noqa: SLF001  no option says so
    session = await filesystem._set_session()  # noqa: SLF001  fsspec's asynchronous side
    try:
        facts = await filesystem._get_object(f"{bucket}/{key}")  # noqa: SLF001  likewise
        generation = str(facts["generation"])
        pinned = f"{bucket}/{key}#{generation}"

        async def read(start: int, end: int) -> bytes:
            try:
                part: bytes = await filesystem._cat_file(pinned, start=start, end=end)  # noqa: SLF001  likewise
            except FileNotFoundError as error:
                raise Changed from error
            return part

        yield Content(int(facts["size"]), generation, read)
    finally:
        await session.close()
