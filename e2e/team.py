"""A namespace whose people serve models, as tests see and use it."""

import json

from e2e.operator_process import until

CHILDREN = (
    "serviceaccount/vision",
    "service/vision",
    "networkpolicy/vision",
    "poddisruptionbudget/vision",
    "configmap/vision-models",
    "deployment/vision",
)


class Team:
    """What its people do, with one ModelDeployment called `vision`."""

    def __init__(self, cluster, namespace):
        self._cluster = cluster
        self.namespace = namespace

    def run(self, *words, **options):
        """Run kubectl in the namespace."""
        return self._cluster.run("-n", self.namespace, *words, **options)

    def apply(self, **spec):
        """Apply a ModelDeployment; keywords are fields of its spec, None leaves one out."""
        self.run("apply", "-f", "-", given=json.dumps(vision(**spec)))

    def get(self, what):
        """Return an object; None when there is none."""
        found = self.run("get", what, "-o", "json", "--show-managed-fields", "--ignore-not-found")
        return json.loads(found) if found else None

    def list(self, kind):
        """Return every object of a kind."""
        return json.loads(self.run("get", kind, "-o", "json"))["items"]

    def condition(self, kind):
        """Return a condition of the ModelDeployment, empty while there is none."""
        status = (self.get("mdep/vision") or {}).get("status", {})
        found = [each for each in status.get("conditions", []) if each["type"] == kind]
        return found[0] if found else {}

    def replicas(self):
        """Return how many pods the Deployment wants."""
        return self.get("deployment/vision")["spec"]["replicas"]

    def until_seen(self):
        """Wait until the operator has reported on the spec as it is."""

        def seen():
            body = self.get("mdep/vision")
            return body["status"]["observedGeneration"] == body["metadata"]["generation"]

        until(seen)

    def until_all(self, children=CHILDREN):
        """Wait for the children and return them."""
        until(lambda: all(self.get(each) for each in children))
        return {each: self.get(each) for each in children}


def vision(**spec):
    """Return the manifest of `vision`."""
    source = {"uri": "file:///home/model-server/model-store/classifier-1.0.mar"}
    model = {"name": "classifier", "version": "1.0", "source": source}
    wish = {"models": [model], "replicas": 2, **spec}
    return {
        "apiVersion": "serving.flambeau.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "vision"},
        "spec": {name: value for name, value in wish.items() if value is not None},
    }
