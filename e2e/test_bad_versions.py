"""A version that cannot be served touches one pod, and the old one serves on."""

import hashlib
from dataclasses import dataclass

import pytest

from e2e.cluster.faults import ClusterFault
from e2e.flambeau import echo, identity

pytestmark = pytest.mark.timeout(420)

NOT_IT = "sha256:" + hashlib.sha256(b"something else").hexdigest()


def _with_digest(body, digest):
    body["spec"]["models"][0]["source"]["digest"] = digest
    return body


@dataclass(frozen=True, slots=True)
class Told:
    """What the status must say of a bad version."""

    reason: str
    message: str = ""
    log_line: str = ""


IMPORT = Told(
    "HandlerImportFailed", "a_module_that_nobody_has", "about to import what is not there"
)
INITIALIZE = Told("InitializeFailed", "the weights do not fit", "about to load the weights")
BAD_VERSIONS = [
    pytest.param(echo("cut"), Told("ArchiveInvalid"), id="an archive that was cut short"),
    pytest.param(
        _with_digest(echo("2.0"), NOT_IT),
        Told("DigestMismatch", "sha256:"),
        id="another sha256",
    ),
    pytest.param(echo("import"), IMPORT, id="a handler that raises on import"),
    pytest.param(echo("initialize"), INITIALIZE, id="a handler that raises in initialize"),
]


@pytest.mark.parametrize(("bad", "told"), BAD_VERSIONS)
def test_a_bad_version_never_reaches_the_second_pod(tenant, archives, load, bad, told):
    tenant.apply(archives("1.0", "2.0", "cut", "import", "initialize"), echo())
    tenant.wait("RolledOut")
    before, version = identity(tenant.pods()), bad["spec"]["models"][0]["version"]
    assert _who_heard_of(tenant, "1.0") == {pod["metadata"]["name"] for pod in tenant.pods()}
    with load(tenant.url()) as asking:
        tenant.apply(bad)
        tenant.generation_seen()
        with pytest.raises(ClusterFault, match="timed out"):
            tenant.wait("RolledOut", within_s=8)
        status = tenant.until_phase("RolledBack")
        heard = _who_heard_of(tenant, version)
        asking.more(50)
        tenant.apply(echo())
        tenant.generation_seen()
        tenant.wait("RolledOut")
    assert not asking.summary.failed, asking.summary
    assert set(asking.summary.words) == {"1.0"}
    assert identity(tenant.pods()) == before
    failure = status["models"][0]["rollout"]["lastFailure"]
    assert failure["reason"] == told.reason
    assert told.message in failure["message"]
    assert told.log_line in failure["logTail"]
    conditions = {each["type"]: each for each in status["conditions"]}
    assert conditions["Ready"]["status"] == "True"
    assert conditions["Stalled"]["status"] == "True"
    assert failure["pod"] in conditions["Stalled"]["message"]
    assert heard == {failure["pod"]}
    events = tenant.kubectl("get", "events", "-o", "jsonpath={.items[*].message}")
    assert f"echo@{version} was taken back" in events


def _who_heard_of(tenant, version):
    """Return the pods whose logs name a version."""
    pods = [pod["metadata"]["name"] for pod in tenant.pods()]
    return {pod for pod in pods if f'"version": "{version}"' in tenant.kubectl("logs", pod)}
