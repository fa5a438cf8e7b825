"""What is wrong with a spec that no parser can see: checked in order, the first counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau_operator.names import versioned
from flambeau_operator.plan import patch
from flambeau_operator.plan.standing import Kind, Standing
from flambeau_operator.resources.conditions import Reason
from flambeau_operator.resources.pod_state import Document
from flambeau_operator.resources.pod_state_json import document_to_json

LARGEST_DOCUMENT = 900 * 1024  # bytes of JSON; a ConfigMap holds 1 MiB


@dataclass(frozen=True, slots=True)
class Violation:
    """Why the spec cannot be brought about as it is written."""

    reason: Reason
    message: str

    @property
    def freezes(self) -> bool:
        """Whether nothing at all may be changed until it is mended."""
        return self.reason in {Reason.TOO_LARGE, Reason.POD_TEMPLATE_INVALID}


def check(
    pod_template: Mapping[str, Any] | None, standings: Sequence[Standing], *committed: Document
) -> Violation | None:
    """Return the first thing that keeps this spec from being brought about.

    Args:
        pod_template: the user's patch.
        standings: each model and the version it shall have.
        committed: what pods shall boot from, now and once what comes in is promoted: that it does
            not fit must not be found out when it has taken all its steps.
    """
    return (
        _pod_template_invalid(pod_template or {})
        or next(filter(None, map(_too_large, committed)), None)
        or _version_reused(standings)
    )


def _pod_template_invalid(pod_template: Mapping[str, Any]) -> Violation | None:
    problems = patch.problems(pod_template)
    if not problems:
        return None
    return Violation(Reason.POD_TEMPLATE_INVALID, "; ".join(str(each) for each in problems))


def _too_large(committed: Document) -> Violation | None:
    size = len(json.dumps(document_to_json(committed)).encode())
    if size <= LARGEST_DOCUMENT:
        return None
    return Violation(
        Reason.TOO_LARGE,
        f"the models need {size} bytes in the pods' document, at most {LARGEST_DOCUMENT} fit: "
        "shorten the warm-up requests",
    )


def _version_reused(standings: Sequence[Standing]) -> Violation | None:
    reused = next((each for each in standings if each.kind is Kind.REUSED), None)
    if reused is None:
        return None
    return Violation(
        Reason.VERSION_REUSED,
        f"{versioned(reused.name, reused.target.version)} is active with another content: "
        "give the new archive a new `version`",
    )
