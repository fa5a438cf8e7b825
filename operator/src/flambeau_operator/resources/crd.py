"""The CustomResourceDefinition, made from the types that parse the object.

`python -m flambeau_operator.resources.crd` prints it as kubectl takes it, with `--helm` as a
template of the chart, with `--fields` as a page that tells every field that can be written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from flambeau_operator.names import GROUP, KIND
from flambeau_operator.resources.deployment_status import Status
from flambeau_operator.resources.model_deployment import OBJECT_NAME, Spec
from flambeau_operator.resources.reference import fields_of
from flambeau_operator.resources.schema import structural_schema, without_defaults

PLURAL = "modeldeployments"
VERSION = "v1alpha1"
NAME_RULE = {
    "rule": f"size(self.metadata.name) <= 50 && self.metadata.name.matches(r'{OBJECT_NAME}')",
    "message": "metadata.name must be at most 50 characters and match "
    f"{OBJECT_NAME}: its Service and its pods are named after it",
}
# Until the operator has looked at it, an object without a status would count as current to
# programs that compare generations, and a wait for Ready would find nothing to wait for.
UNSEEN = {
    "observedGeneration": -1,
    "conditions": [
        {
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for the operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ],
}
COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
    ("Models", "string", ".status.summary", 0),
    ("Workers", "string", ".status.workers", 0),
    ("Replicas", "integer", ".status.replicas", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("URL", "string", ".status.url", 1),
)
SOURCES = "operator/src/flambeau_operator/resources"
HEADER = f"# Made by `make crds` from the types in {SOURCES}: edit those.\n"
PAGE_HEAD = f"""\
<!-- Made by `make crds` from the types in {SOURCES}: edit those. -->
# The fields of a ModelDeployment

`kubectl explain mdep.spec` says the same, and [api.md](api.md) how they work together. What is bold
must be given. A duration is text like `500ms`, `30s` or `1h30m`; a quantity is Kubernetes' (`500m`,
`8Gi`, 2); a share is a number of at least 1, or `1%` to `100%`.

| field | type | default | what it is |
| --- | --- | --- | --- |
"""
HELM_HEAD = "{{- if .Values.crds.enabled }}\n"
HELM_KEEP = """\
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""
HELM_TAIL = "{{- end }}\n"


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["mdep"],
                # Not `all`: `kubectl delete all --all` would delete them.
                "categories": ["flambeau"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _schema()},
        "additionalPrinterColumns": [
            {"name": name, "type": type_, "jsonPath": path, "priority": priority}
            for name, type_, path, priority in COLUMNS
        ],
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    }


def _schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "Models, the pods that serve them, and how both change.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(Spec),
            "status": {**without_defaults(structural_schema(Status)), "default": UNSEEN},
        },
        "x-kubernetes-validations": [NAME_RULE],
    }


def as_yaml() -> str:
    """Return the CRD as the file that `kubectl apply` takes."""
    return HEADER + _dump()


def as_helm_template() -> str:
    """Return the CRD as a template: the chart's values say whether it is installed and kept."""
    head, metadata, rest = _dump().partition("metadata:\n")
    return HEADER + HELM_HEAD + head + metadata + HELM_KEEP + rest + HELM_TAIL


def as_page() -> str:
    """Return every field of the spec as a page of the documentation."""
    return PAGE_HEAD + "".join(f"{line}\n" for line in fields_of(structural_schema(Spec), "spec"))


def _dump() -> str:
    return yaml.safe_dump(crd(), sort_keys=False, allow_unicode=True, width=100)


FORMS: Mapping[str, Callable[[], str]] = {
    "": as_yaml,
    "--helm": as_helm_template,
    "--fields": as_page,
}


def main(arguments: Sequence[str]) -> int:
    """Print the CRD."""
    form = FORMS.get(" ".join(arguments))
    if form is None:
        sys.stderr.write("usage: python -m flambeau_operator.resources.crd [--helm | --fields]\n")
        return 2
    sys.stdout.write(form())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
