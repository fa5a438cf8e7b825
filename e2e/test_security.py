"""Pods that Pod Security calls restricted, and a management API that knows its master."""

import base64
import json
import re
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.dataplane.signing import bearer

from e2e.flambeau import SYSTEM, echo

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def served(tenant, archives):
    """Version 1.0 in one pod, in a namespace that enforces `restricted`."""
    tenant.apply(archives("1.0"), echo(replicas=1))
    tenant.wait("RolledOut")
    return tenant


def test_every_pod_is_restricted(served):
    cluster = served.cluster
    for namespace in (served.namespace, SYSTEM):
        level = "pod-security.kubernetes.io/enforce=restricted"
        said = cluster.run(
            "label", "--dry-run=server", "--overwrite", "namespace", namespace, level
        )
        assert "violate" not in said
    assert served.pods()
    assert served.flambeau.operators()


def test_a_model_pod_has_no_token_of_its_namespace(served):
    (pod,) = served.pods()
    listed = "import os; print(os.path.exists('/var/run/secrets/kubernetes.io'))"
    said = served.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", listed)
    assert said.strip() == "False"


def test_the_operator_can_read_no_secret_but_its_own(served):
    account = f"system:serviceaccount:{SYSTEM}:flambeau"
    cluster = served.cluster
    for namespace in ("default", served.namespace, "kube-system"):
        rights = cluster.run(
            "auth", "can-i", "--list", f"--namespace={namespace}", f"--as={account}"
        )
        secrets = [line for line in rights.splitlines() if line.startswith("secrets ")]
        assert secrets == [], rights
    rights = cluster.run("auth", "can-i", "--list", f"--namespace={SYSTEM}", f"--as={account}")
    for line in rights.splitlines():
        if line.startswith("secrets "):
            reads = {"get", "list", "watch", "*"} & set(re.findall(r"[a-z*]+", line))
            assert not reads or "[flambeau-operator-keys]" in line, rights


def test_the_management_api_of_a_pod_knows_its_operator(served):
    (pod,) = served.pods()
    address = f"http://{pod['status']['podIP']}:8081/state"
    uid = served.get()["metadata"]["uid"]
    key, stranger = _operators_key(served), Ed25519PrivateKey.generate()

    assert _status_of(served, address, bearer(key, uid=uid)) == 200
    refused = {
        "unsigned": "",
        "expired": bearer(key, uid=uid, age_s=200),
        "a stranger's": bearer(stranger, uid=uid),
        "for another ModelDeployment": bearer(key, uid="another-uid"),
        "for another body": bearer(key, b"{}", uid=uid),
    }
    answers = {why: _status_of(served, address, header) for why, header in refused.items()}
    assert answers == dict.fromkeys(refused, 401)


def test_a_neighbour_cannot_use_torchserves_verbs(served):
    (pod,) = served.pods()
    address = f"http://{pod['status']['podIP']}:8081/models/echo"
    assert _status_of(served, address, "", method="DELETE") in {401, 403, 409}
    assert _status_of(served, f"{address}?min_worker=9", "", method="PUT") in {401, 403, 409}
    assert served.condition("Ready")["status"] == "True"


def _operators_key(tenant):
    """Return the key that only the operator should have; a test may, as the administrator."""
    secret = tenant.cluster.run(
        "-n", SYSTEM, "get", "secret", "flambeau-operator-keys", "-o", "json"
    )
    (text,) = json.loads(secret)["data"].values()
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text))


def _status_of(tenant, url, authorization, method="GET"):
    """Return the status of a call made from inside the cluster's network."""
    said = tenant.cluster.inside(sys.executable, "-c", CALL, method, url, authorization)
    return int(said)


CALL = """
import sys, urllib.error, urllib.request
method, url, authorization = sys.argv[1:]
headers = {"Authorization": authorization} if authorization else {}
try:
    request = urllib.request.Request(url, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(answer.status)
except urllib.error.HTTPError as refused:
    print(refused.code)
"""
