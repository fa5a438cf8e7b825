"""The chart's roles: the operator needs each of their rights, and no other.

One operator works with the chart's own account. It follows what it follows everywhere; in each of
many namespaces it lacks one right of those to act, and one ModelDeployment goes through the same
edits in all of them. What was asked and refused stands in the API server's audit log.
"""

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.chart import NAMESPACE, RELEASE, Chart
from e2e.cluster import launch
from e2e.cluster.control_plane import free_port
from e2e.cluster.place import Place
from e2e.waiting import until

# The first run on a machine builds Kubernetes and helm.
pytestmark = pytest.mark.timeout(1800)

GROUP = "serving.flambeau.dev"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
COMPLETE = "with-every-right"


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one kind of object."""

    resource: str
    group: str
    verb: str

    def __str__(self):
        return f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"

    @property
    def namespace(self):
        """Where the operator has every right to act but this one."""
        return f"no-{self.verb}-{self.resource.replace('/', '-')}"

    def is_refused_by(self, words):
        """Whether the API server says that this right is missing."""
        if self.resource.endswith("/finalizers"):  # asked for by an admission plugin
            return "set finalizers on" in words
        where = f'in API group "{self.group}"'
        return f'cannot {self.verb} resource "{self.resource}" {where}' in words


CHILDREN = [
    ("configmaps", ""),
    ("services", ""),
    ("serviceaccounts", ""),
    ("deployments", "apps"),
    ("poddisruptionbudgets", "policy"),
    ("networkpolicies", "networking.k8s.io"),
    ("horizontalpodautoscalers", "autoscaling"),
]
FOLLOWED = [("modeldeployments", GROUP), ("pods", ""), *CHILDREN]
FOLLOWING = [Right(*each, verb) for each in FOLLOWED for verb in ("list", "watch")]
OWN = [
    *(Right("leases", "coordination.k8s.io", verb) for verb in ("create", "get", "update")),
    *(Right("secrets", "", verb) for verb in ("create", "get")),
]
ACTING = [
    Right("modeldeployments", GROUP, "get"),
    Right("modeldeployments/status", GROUP, "update"),
    Right("modeldeployments/finalizers", GROUP, "update"),
    Right("events", "", "create"),
    *(Right(*each, verb) for each in CHILDREN for verb in ("get", "create", "patch")),
    *(Right(*each, "delete") for each in CHILDREN[-3:]),
]


@dataclass(frozen=True)
class Trial:
    """What is left of it: the audit log, and what the operator said."""

    asked: list = field(default_factory=list)
    said: list = field(default_factory=list)

    def refusals(self, namespace):
        """Return the API server's words where it refused something."""
        return [
            each["responseStatus"].get("message", "")
            for each in self.asked
            if each["responseStatus"].get("code") == 403
            and each.get("objectRef", {}).get("namespace") == namespace
        ]

    def used(self, right):
        """Return the answers to calls that needed this right."""
        return [
            each["responseStatus"].get("code")
            for each in self.asked
            if each["verb"] == right.verb
            and each.get("objectRef", {}).get("resource") == right.resource
            and each["objectRef"].get("apiGroup", "") == right.group
        ]


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    """The chart, and a control plane of its own."""
    with launch.running(1, Place(tmp_path_factory.mktemp("rights") / "cluster"), print) as cluster:
        cluster.run("create", "namespace", NAMESPACE)
        yield Chart(cluster)


@pytest.fixture(scope="module")
def trial(chart, tmp_path_factory):
    """Let an operator live through everything that it has a right for."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with chart.installed({"watchNamespaces": [NAMESPACE]}):
        _give_rights(chart)
        kubeconfig = chart.cluster.kubeconfig_for(NAMESPACE, RELEASE)
        with _operator(kubeconfig, log):
            _live_through_everything(chart)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return Trial(_asked(chart), lines)


def test_the_chart_gives_the_rights_that_are_tested_here_and_no_other(chart):
    rules = [rule for each in chart.render() for rule in each.get("rules", ())]
    given = {
        right
        for each in chart.render()
        if not each["metadata"]["name"].endswith(("-view", "-edit"))
        for rule in each.get("rules", ())
        for right in _rights(rule)
    }
    assert given == {*FOLLOWING, *OWN, *ACTING}
    assert "*" not in json.dumps(rules)


def test_they_are_enough(trial):
    assert trial.refusals(COMPLETE) == []
    assert trial.refusals(NAMESPACE) == []
    assert trial.refusals(None) == []


@pytest.mark.parametrize("right", [*FOLLOWING, *OWN], ids=str)
def test_the_operator_uses_its_right_to(trial, right):
    assert trial.used(right)


@pytest.mark.parametrize("right", ACTING, ids=str)
def test_the_operator_says_what_it_lacks_without_the_right_to(trial, right):
    refusals = trial.refusals(right.namespace)
    assert any(right.is_refused_by(words) for words in refusals), refusals
    about = [line for line in map(json.dumps, trial.said) if right.namespace in line]
    assert any("forbidden" in line for line in about), about


def _rights(rule):
    return {
        Right(resource, group, verb)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _rules(rights):
    return [
        {"apiGroups": [each.group], "resources": [each.resource], "verbs": [each.verb]}
        for each in rights
    ]


def _give_rights(chart):
    """Let the chart's account follow everything, and act with one right less in each namespace."""
    lacking = {COMPLETE: None} | {each.namespace: each for each in ACTING}
    objects = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in lacking]
    objects += _bound("ClusterRole", "following", None, FOLLOWING)
    for namespace, without in lacking.items():
        objects += _bound("Role", "acting", namespace, [r for r in ACTING if r != without])
    _apply(chart, objects)


def _bound(kind, name, namespace, rights):
    about = {"name": name} | ({"namespace": namespace} if namespace else {})
    version, group = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": RELEASE, "namespace": NAMESPACE}
    return [
        {"apiVersion": version, "kind": kind, "metadata": about, "rules": _rules(rights)},
        {
            "apiVersion": version,
            "kind": f"{kind}Binding",
            "metadata": about,
            "roleRef": {"apiGroup": group, "kind": kind, "name": name},
            "subjects": [account],
        },
    ]


@contextlib.contextmanager
def _operator(kubeconfig, log):
    """Have an operator work as a process, and return once it is ready."""
    port = free_port()
    environment = {
        "FLAMBEAU_NAMESPACE": NAMESPACE,
        "FLAMBEAU_POD_NAME": "trial",
        "FLAMBEAU_RUNTIME_IMAGE": "localhost/flambeau-runtime:dev",
        "FLAMBEAU_HTTP_PORT": str(port),
        "KUBECONFIG": str(kubeconfig),
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "flambeau_operator"],
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            until("the operator is ready", lambda: _is_ready(process, port, log))
            yield
        finally:
            process.terminate()


def _is_ready(process, port, log):
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    return False


def _live_through_everything(chart):
    """Take one ModelDeployment of each namespace through what brings every right into play."""
    _edit(chart, replicas=2)
    _await_children(chart, deploy=True, pdb=True, networkpolicy=True, hpa=False)
    _edit(chart, networkPolicy="None", autoscaling={"hpa": {"min": 1, "max": 3}})
    _await_children(chart, deploy=True, pdb=False, networkpolicy=False, hpa=True)
    _await_refusals(chart, "poddisruptionbudgets", "networkpolicies")
    _edit(chart, replicas=1, networkPolicy="None")
    _await_children(chart, deploy=True, pdb=False, networkpolicy=False, hpa=False)
    _await_refusals(chart, "horizontalpodautoscalers")
    # An event, and a refusal of it, may come a moment after what it tells of.
    until("an event is told", lambda: Trial(_asked(chart)).used(Right("events", "", "create")))


def _edit(chart, **spec):
    model = {
        "name": "classifier",
        "version": "1.0",
        "source": {"uri": "https://example.com/classifier.mar"},
    }
    _apply(
        chart,
        [
            {
                "apiVersion": f"{GROUP}/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": "wine", "namespace": namespace},
                "spec": {"models": [model], **spec},
            }
            for namespace in (COMPLETE, *(each.namespace for each in ACTING))
        ],
    )


def _apply(chart, objects):
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    words = ["apply", "--server-side", "--force-conflicts", "-f", "-"]
    chart.cluster.run(*words, given=text)


def _await_children(chart, **wanted):
    def there(kind):
        words = ["-n", COMPLETE, "get", kind, "wine", "-o", "name", "--ignore-not-found"]
        return bool(chart.cluster.run(*words))

    until(f"{wanted}", lambda: {kind: there(kind) for kind in wanted} == wanted)


def _await_refusals(chart, *resources):
    """Wait until the namespaces that lack the right to delete these have been told so."""
    lacking = [each for each in ACTING if each.verb == "delete" and each.resource in resources]

    def told():
        trial = Trial(_asked(chart))
        return all(trial.refusals(each.namespace) for each in lacking)

    until(f"{', '.join(map(str, lacking))} are refused", told)


def _asked(chart):
    lines = Path(chart.cluster.place.audit).read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [each for each in entries if each["user"]["username"] == ACCOUNT]
