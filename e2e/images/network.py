"""How this machine reaches its package index, for builds that have to as well.

Nothing of it is left in an image: certificates and credentials are secrets of the build, which lie
in no layer, and proxies and the index are arguments of stages that the image does not hold.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "FTP_PROXY", "ALL_PROXY")
# Debian and its kin, Red Hat and its kin, macOS.
TRUSTED = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def words() -> Iterator[str]:
    """Yield the options of `docker build` and `buildah build` that tell a build of this network."""
    for secret, file in (("certificates", _certificates()), ("netrc", _netrc())):
        if file is not None:
            yield f"--secret=id={secret},src={file}"
    # Without values: they are taken from the environment, and no list of processes shows them.
    yield from (f"--build-arg={name}" for name in environment())


def environment() -> Mapping[str, str]:
    """Return the variables that those options name."""
    named = [*PROXIES, *(name.lower() for name in PROXIES)]
    found = {name: os.environ[name] for name in named if os.environ.get(name)}
    index = _configured(("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"), "global.index-url")
    return found | ({"PIP_INDEX_URL": index} if index else {})


def _certificates() -> Path | None:
    named = _configured(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), "global.cert")
    candidates = [named] if named else TRUSTED
    return next((Path(file).resolve() for file in candidates if Path(file).is_file()), None)


def _netrc() -> Path | None:
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    return file if file.is_file() else None


def _configured(variables: Sequence[str], key: str) -> str:
    """Return what the environment or, else, pip's configuration says."""
    said = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    if said or shutil.which("pip") is None:
        return said
    asked = subprocess.run(
        ["pip", "config", "get", key], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else ""
