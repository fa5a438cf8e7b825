"""Where an archive comes from, and what its version is called."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import StringConstraints, WithJsonSchema

from flambeau_operator.resources.field_problems import SCHEMES
from flambeau_operator.resources.rules import Rule, rule
from flambeau_operator.resources.wish import DnsName, Wish

CONFIG_MAP_URI = r"^configmap://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9_-][A-Za-z0-9_.-]*$"
CLAIM_URI = r"^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/\S+$"
UPWARDS = r"(?i)/(\.|%2e){2}(/|$)"

Version = Annotated[
    str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.+]*[A-Za-z0-9])?$")
]
Uri = Annotated[
    str,
    StringConstraints(
        max_length=2048, pattern=r"^(https?|s3|gs|az|hf|oci|file|configmap|pvc)://\S+$"
    ),
    # The pattern is a rule of Source in the CRD: there it can say what to do.
    WithJsonSchema({"type": "string", "maxLength": 2048}),
]
Digest = Annotated[str, StringConstraints(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]


class Source(Wish):
    """Where the archive is."""

    uri: Uri
    """`https://HOST/PATH`, `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/BLOB`,
    `hf://ORG/REPO[@REVISION][/PATH]`, `oci://REGISTRY/REPOSITORY:TAG`, `configmap://NAME/KEY`,
    `pvc://CLAIM/PATH`, http or file."""
    digest: Digest | None = None
    """Pins the content: sha256 and 64 hexadecimal digits."""
    credentials: DnsName | None = None
    """What opens it: the name of one of spec.credentials."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            r"self.uri.matches(r'^(https?|s3|gs|az|hf|oci|file|configmap|pvc)://\S+$')",
            f"is not an address: use {SCHEMES}",
            ".uri",
        ),
        rule(
            "!has(self.credentials) || !self.uri.matches('^(file|configmap|pvc)://')",
            "is of no use for what is mounted already: leave it out",
            ".credentials",
            lambda self: (
                self.credentials is None
                or not self.uri.startswith(("file://", "configmap://", "pvc://"))
            ),
        ),
        rule(
            f"!self.uri.startsWith('configmap://') || self.uri.matches(r'{CONFIG_MAP_URI}')",
            "must be configmap://NAME/KEY: a ConfigMap and a key in it",
            ".uri",
            lambda self: (
                not self.uri.startswith("configmap://")
                or bool(re.fullmatch(CONFIG_MAP_URI, self.uri))
            ),
        ),
        rule(
            f"!self.uri.startsWith('pvc://') || (self.uri.matches(r'{CLAIM_URI}') && "
            f"!self.uri.matches(r'{UPWARDS}'))",
            "must be pvc://CLAIM/PATH: a claim and a path below its root, without ..",
            ".uri",
            lambda self: (
                not self.uri.startswith("pvc://")
                or bool(re.fullmatch(CLAIM_URI, self.uri) and not re.search(UPWARDS, self.uri))
            ),
        ),
    )
