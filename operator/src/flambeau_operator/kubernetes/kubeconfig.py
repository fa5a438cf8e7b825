"""How a person reaches a cluster: by a kubeconfig, as kubectl does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_kube_config

from flambeau_operator.errors import InvalidSettings

DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Reached:
    """One cluster as its user sees it."""

    configuration: Configuration
    context: str
    namespace: str  # of the context


def find_kubeconfig(given: str | None) -> str | None:
    """Return the kubeconfig that counts: the given one, $KUBECONFIG or ~/.kube/config.

    None when there is no such file. As in kubectl, $KUBECONFIG may be several paths.
    """
    if given is not None:
        return given
    named = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return named if _exists(named) else None


def _exists(kubeconfig: str) -> bool:
    return any(Path(each).expanduser().exists() for each in kubeconfig.split(os.pathsep) if each)


async def reach(kubeconfig: str, context: str | None) -> Reached:
    """Read how a cluster is reached; nothing is asked of it yet.

    Args:
        kubeconfig: one path, or several as in $KUBECONFIG.
        context: None is the current one.

    Raises:
        InvalidSettings: it cannot be used, or has no such context.
    """
    if not _exists(kubeconfig):
        raise InvalidSettings([f"there is no kubeconfig {kubeconfig}"])
    found = Configuration()
    try:
        loader = await load_kube_config(  # type: ignore[no-untyped-call]
            kubeconfig, context=context, client_configuration=found, persist_config=False
        )
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InvalidSettings([f"the kubeconfig {kubeconfig} cannot be used: {error}"]) from error
    # Else each call reads ~/.netrc; a proxy is taken from the kubeconfig or the environment.
    found.client_session_kwargs = {"trust_env": False}
    found.proxy = found.proxy or _proxy(found.host)
    current = loader.current_context
    namespace = current["context"].get("namespace") or DEFAULT_NAMESPACE
    return Reached(found, str(current["name"]), str(namespace))


def _proxy(server: str) -> str | None:
    address = urlsplit(server)
    if proxy_bypass(address.netloc):
        return None
    return getproxies().get(address.scheme)
