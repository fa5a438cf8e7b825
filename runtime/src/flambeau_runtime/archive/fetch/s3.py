"""Objects of S3 and of what speaks like it, through s3fs.

Credentials, region, endpoint (AWS_ENDPOINT_URL), proxies and certificate authorities
(AWS_CA_BUNDLE) are found as every AWS client finds them; without credentials it asks as nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from flambeau_runtime.archive.fetch.extras import need, split
from flambeau_runtime.archive.fetch.ranged import Content

CONFIG: dict[str, Any] = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"mode": "standard", "max_attempts": 2},
}


@asynccontextmanager
async def open_object(uri: str) -> AsyncIterator[Content]:
    """Open s3://BUCKET/KEY."""
    s3fs = need("s3fs", "s3")
    session = need("aiobotocore.session", "s3").AioSession()
    bucket, key = split(uri, "BUCKET/KEY")
    nobody = await session.get_credentials() is None
    filesystem = s3fs.S3FileSystem(
        anon=nobody, session=session, asynchronous=True, config_kwargs=CONFIG
    )
    filesystem.retries = 1  # of its own: who calls tries again, and goes on where it stopped
    client = await filesystem.set_session()
    try:
        head = await filesystem._call_s3("head_object", Bucket=bucket, Key=key)  # noqa: SLF001  the only way to a condition

        async def read(start: int, end: int) -> bytes:
            answer = await filesystem._call_s3(  # noqa: SLF001  likewise
                "get_object",
                Bucket=bucket,
                Key=key,
                Range=f"bytes={start}-{end - 1}",
                IfMatch=head["ETag"],
            )
            async with answer["Body"] as body:
                part: bytes = await body.read()
            return part

        yield Content(head["ContentLength"], head["ETag"], read)
    finally:
        await client.close()
