"""Blobs of Azure, through adlfs.

AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with a key, a SAS token, a service
principal (AZURE_STORAGE_CLIENT_ID …) or a workload identity (AZURE_FEDERATED_TOKEN_FILE …);
with the account's name alone it asks as nobody.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flambeau_runtime.archive.fetch.extras import need, split
from flambeau_runtime.archive.fetch.ranged import Content
from flambeau_runtime.errors import SourceNotFound

KEYS = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
)
ACCOUNTS = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_CONNECTION_STRING")


@asynccontextmanager
async def open_object(uri: str) -> AsyncIterator[Content]:
    """Open az://CONTAINER/BLOB."""
    adlfs = need("adlfs", "az")
    unmodified = need("azure.core", "az").MatchConditions.IfNotModified
    container, name = split(uri, "CONTAINER/BLOB")
    if not any(os.environ.get(each) for each in ACCOUNTS):
        raise SourceNotFound(
            f"Model not found at: {uri} (whose? set AZURE_STORAGE_ACCOUNT_NAME or "
            "AZURE_STORAGE_CONNECTION_STRING)"
        )
    filesystem = adlfs.AzureBlobFileSystem(
        anon=not any(os.environ.get(each) for each in KEYS),
        asynchronous=True,
        skip_instance_cache=True,
    )
    service = filesystem.service_client
    # Its own tries would take more than a minute and keep nothing of what has come.
    service._config.retry_policy.total_retries = 0  # noqa: SLF001  adlfs hands no option on
    try:
        async with service.get_blob_client(container, name) as blob:
            facts = await blob.get_blob_properties()

            async def read(start: int, end: int) -> bytes:
                stream = await blob.download_blob(
                    offset=start, length=end - start, etag=facts.etag, match_condition=unmodified
                )
                part: bytes = await stream.readall()
                return part

            yield Content(facts.size, facts.etag, read)
    finally:
        await service.close()
