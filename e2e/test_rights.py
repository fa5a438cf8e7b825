"""The chart's roles: the operator needs each of their rights, and no other.

One operator works with the chart's own account. It follows what it follows everywhere; in each of
many namespaces it lacks one right of those to act, and one ModelDeployment goes through the same
edits in all of them. What was asked and refused stands in the API server's audit log.
"""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from e2e.chart import NAMESPACE, RELEASE, Chart
from e2e.cluster import launch
from e2e.cluster.place import Place
from e2e.operator_process import operating
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

    def lacks(self, right):
        """Whether the API server missed this right where all others are."""
        return any(right.is_refused_by(words) for words in self.refusals(right.namespace))

    def tells(self, right):
        """Whether the operator said so."""
        about = (line for line in map(json.dumps, self.said) if right.namespace in line)
        return any("forbidden" in line for line in about)

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
    folder = tmp_path_factory.mktemp("operator")
    with chart.installed({"watchNamespaces": [NAMESPACE]}):
        _give_rights(chart)
        until("the API server knows of them", lambda: _may_own(chart, COMPLETE))
        kubeconfig = chart.cluster.kubeconfig_for(NAMESPACE, RELEASE)
        with operating(kubeconfig, folder, NAMESPACE) as operator:
            _live_through_everything(chart)
            # It says so once a pass is over; what it never says, the tests below find out.
            with contextlib.suppress(AssertionError):
                until("all is said", lambda: all(map(Trial([], operator.events()).tells, ACTING)))
            return Trial(_asked(chart), operator.events())


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
    assert trial.lacks(right), trial.refusals(right.namespace)
    assert trial.tells(right)


def test_roles_in_some_namespaces_are_enough_as_well(chart, tmp_path):
    chart.cluster.run("create", "namespace", "team-a")
    begin = len(_asked(chart))
    with chart.installed({"watchNamespaces": ["team-a"]}):
        kubeconfig = chart.cluster.kubeconfig_for(NAMESPACE, RELEASE)
        with operating(kubeconfig, tmp_path, NAMESPACE, watch=["team-a"]):
            _edit(chart, ["team-a"], replicas=2)
            _await_children(chart, "team-a", deploy=True, pdb=True, networkpolicy=True)
    trial = Trial(_asked(chart)[begin:])
    assert [each for each in trial.asked if each["responseStatus"].get("code") == 403] == []
    assert all(trial.used(right) for right in FOLLOWING)


@pytest.mark.parametrize("adopt", [False, True], ids=["without", "with"])
def test_adopting_asks_for_the_right_to_delete_where_the_api_server_does(chart, tmp_path, adopt):
    team = f"adopt-{adopt}".lower()
    chart.cluster.run("create", "namespace", team)
    with chart.installed({"rbac": {"adopt": adopt}}):
        kubeconfig = chart.cluster.kubeconfig_for(NAMESPACE, RELEASE)
        with operating(kubeconfig, tmp_path, NAMESPACE) as operator:
            _edit(chart, [team], replicas=2)
            _await_children(chart, team, deploy=True, pdb=True, networkpolicy=True)
            chart.cluster.run("-n", team, "delete", "mdep", "wine", "--cascade=orphan")
            _edit(chart, [team], {"serving.flambeau.dev/adopt": "true"}, replicas=2)
            if adopt:
                until("all are adopted", lambda: _owners(chart, team) == {_uid(chart, team)})
            else:
                words = "cannot set an ownerRef on a resource you can't delete"
                until("it says why not", lambda: words in json.dumps(operator.events()))


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


def _may_own(chart, namespace):
    """Whether the account could make an object that a ModelDeployment owns.

    For some seconds after a kind was defined the API server's admission does not find it, and says
    that its owners may not be written; and what may be done is known to it a moment after it was
    given.
    """
    owner = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "ModelDeployment", "name": "of", "uid": "1"}
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "owned", "ownerReferences": [owner | {"blockOwnerDeletion": True}]},
    }
    words = ["-n", namespace, "create", "--dry-run=server", "-o", "name", f"--as={ACCOUNT}"]
    return chart.cluster.run(*words, "-f", "-", given=json.dumps(made))


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


def _live_through_everything(chart):
    """Take one ModelDeployment of each namespace through what brings every right into play."""
    everywhere = [COMPLETE, *(each.namespace for each in ACTING)]
    _edit(chart, everywhere, replicas=2)
    _await_children(chart, COMPLETE, deploy=True, pdb=True, networkpolicy=True, hpa=False)
    _edit(chart, everywhere, replicas=1, networkPolicy="None")
    _await_children(chart, COMPLETE, deploy=True, pdb=False, networkpolicy=False, hpa=False)
    policies = "networkpolicies.networking.k8s.io"
    _await_refusals(chart, "delete poddisruptionbudgets.policy", f"delete {policies}")
    _edit(chart, everywhere, networkPolicy="None", autoscaling={"hpa": {"min": 1, "max": 3}})
    _await_children(chart, COMPLETE, deploy=True, networkpolicy=False, hpa=True)
    autoscalers = "horizontalpodautoscalers.autoscaling"
    _await_refusals(chart, f"create {autoscalers}", f"patch {autoscalers}")
    _edit(
        chart, everywhere, networkPolicy="None", replicas=1, suspend=True
    )  # of which an event tells
    _await_children(chart, COMPLETE, deploy=True, networkpolicy=False, hpa=False)
    _await_refusals(chart, f"delete {autoscalers}", "create events")


def _edit(chart, namespaces, annotations=None, /, **spec):
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
                "metadata": {
                    "name": "wine",
                    "namespace": namespace,
                    "annotations": annotations or {},
                },
                "spec": {"models": [model], **spec},
            }
            for namespace in namespaces
        ],
    )


def _apply(chart, objects):
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    words = ["apply", "--server-side", "--force-conflicts", "-f", "-"]
    chart.cluster.run(*words, given=text)


def _await_children(chart, namespace, **wanted):
    def there(kind):
        words = ["-n", namespace, "get", kind, "wine", "-o", "name", "--ignore-not-found"]
        return bool(chart.cluster.run(*words))

    for kind, is_there in wanted.items():
        until(f"{kind}: {is_there}", lambda kind=kind, what=is_there: there(kind) is what)


def _await_refusals(chart, *rights):
    """Wait until the operator has asked for what it may not do where it lacks one of these."""

    def refused():
        trial = Trial(_asked(chart))
        lacking = [each for each in ACTING if str(each) in rights]
        return all(trial.lacks(each) for each in lacking)

    until(f"{rights} are refused", refused)


def _owners(chart, namespace):
    """Return the uids of the ModelDeployments that own what they would make; None for nobody."""
    kinds = "deploy,service,serviceaccount,configmap,pdb,networkpolicy"
    chosen = "app.kubernetes.io/managed-by=flambeau"
    found = chart.cluster.run("-n", namespace, "get", kinds, "-l", chosen, "-o", "json")
    references = [
        each["metadata"].get("ownerReferences", [{}]) for each in json.loads(found)["items"]
    ]
    return {owner.get("uid") for (owner,) in references}


def _uid(chart, namespace):
    return chart.cluster.run(
        "-n", namespace, "get", "mdep", "wine", "-o", "jsonpath={.metadata.uid}"
    )


def _asked(chart):
    lines = Path(chart.cluster.place.audit).read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [each for each in entries if each["user"]["username"] == ACCOUNT]
