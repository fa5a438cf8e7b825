"""What `helm test` asks: is the operator ready, and may it read what it is to serve?"""

import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
WITHIN_S = 30


def main() -> None:
    """Ask everything; raise what goes wrong, so that the pod fails with it in its log."""
    operator = os.environ["OPERATOR"]
    await_ready(f"{operator}/readyz")
    if b"flambeau_" not in get(f"{operator}/metrics"):
        raise SystemExit(f"{operator}/metrics has no metric of flambeau's")
    for namespace in os.environ["WATCHED"].split(","):
        read_deployments(namespace)
    sys.stdout.write("The operator is ready, and may read the ModelDeployments it is to serve.\n")


def await_ready(url: str) -> None:
    """Wait until the operator says that it is ready."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            get(url)
        except OSError as problem:
            if time.monotonic() > deadline:
                raise SystemExit(f"{url}: {problem}") from problem
            time.sleep(1)
        else:
            return


def read_deployments(namespace: str) -> None:
    """Read a ModelDeployment of a namespace, or of any, as the operator would."""
    server = "https://kubernetes.default.svc/apis/serving.flambeau.dev/v1alpha1"
    scope = f"/namespaces/{namespace}" if namespace else ""
    url = f"{server}{scope}/modeldeployments?limit=1"
    try:
        get(url, (ACCOUNT / "token").read_text())
    except urllib.error.HTTPError as refusal:
        raise SystemExit(f"{url}: {refusal} {refusal.read().decode()}") from refusal


def get(url: str, token: str | None = None) -> bytes:
    """Read a page, as the owner of a token if one is given."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  the chart's own URLs
    with urllib.request.urlopen(request, timeout=5, context=trusted) as answer:  # noqa: S310
        return answer.read()


main()
