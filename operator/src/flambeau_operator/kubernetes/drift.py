"""Tells whether an object already is as it is wanted, so that a pass at rest writes nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flambeau_operator.names import GROUP

Manifest = Mapping[str, Any]

APPLIED: Final = f"{GROUP}/applied"
"""Annotation of children: the hash of the manifest that was last applied.

Without it a field that is no longer wanted could not be told from one that never was ours.
"""


def stamped(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest with its own hash in an annotation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED: digest}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def projected(live: Any, wanted: Any) -> Any:  # noqa: ANN401  JSON as it comes
    """Return what an object says at the places that a manifest names."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        return {key: projected(live[key], each) for key, each in wanted.items() if key in live}
    if _is_list(wanted) and _is_list(live) and len(live) == len(wanted):
        return [projected(*pair) for pair in zip(live, wanted, strict=True)]
    return live


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
