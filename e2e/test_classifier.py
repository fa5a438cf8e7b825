"""The example, as the README tells it: applied, waited for, asked, and changed while it serves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.flambeau import identity

pytestmark = pytest.mark.timeout(600)

EXAMPLE = Path(__file__).parents[1] / "examples" / "classifier"
ASKED = '{"features": [13.0, 2.3, 2.4, 19.0, 100.0, 2.3, 2.0, 0.4, 1.6, 5.0]}'


@pytest.fixture(scope="module")
def built():
    """Both versions of the example, trained and packed."""
    paths = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}
    subprocess.run([EXAMPLE / "build.sh"], check=True, env=paths, capture_output=True, timeout=300)


@pytest.mark.usefixtures("built")
def test_the_example_is_applied_asked_and_changed_while_it_serves(torch_tenant, load):
    tenant = torch_tenant
    tenant.kubectl("apply", "-f", str(EXAMPLE))
    tenant.wait("Ready", "wine", within_s=150)
    url = tenant.url("wine")
    answer = json.loads(tenant.ask(f"{url}/predictions/classifier", ASKED))
    assert answer["class_name"]
    before = identity(tenant.pods("wine"))
    with (
        load(url, "/predictions/classifier", body=ASKED, word='"class_name": ?"([^"]*)"') as asking,
        tenant.watching("wine") as seen,
    ):
        _edit(tenant, {"workers": {"min": 2}})
        tenant.generation_seen("wine")
        tenant.wait("RolledOut", "wine", within_s=150)
        newer = "configmap://wine-archives/classifier-2.0.mar"
        _edit(tenant, {"workers": {"min": 2}, "version": "2.0", "source": {"uri": newer}})
        tenant.generation_seen("wine")
        tenant.wait("RolledOut", "wine", within_s=150)
        asking.more(100)
    assert not asking.summary.failed, asking.summary
    assert asking.summary.answered / asking.summary.seconds >= 50
    assert identity(tenant.pods("wine")) == before
    assert "1.0→2.0" in seen.text
    status = tenant.get("wine")["status"]
    assert status["workers"] == "4/4"
    assert status["models"][0]["activeVersion"] == "2.0"
    described = tenant.kubectl("describe", "modeldeployment", "wine")
    for words in ("classifier@2.0 serves", "Rolled Out", "All Models Serving"):
        assert words.replace(" ", "") in described.replace(" ", "")


def _edit(tenant, changes):
    """Change the first model as somebody does who edits the file and applies it again."""
    body = json.loads(
        tenant.kubectl(
            "create", "--dry-run=client", "-o", "json", "-f", str(EXAMPLE / "classifier.yaml")
        )
    )
    body["spec"]["models"][0].update(changes)
    tenant.apply(body)
