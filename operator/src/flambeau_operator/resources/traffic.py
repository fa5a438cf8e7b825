"""Several versions of one model at the same time: who is asked, and who only listens."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, StrictInt, StringConstraints

from flambeau_operator.resources.comparison import Comparison
from flambeau_operator.resources.rollout import ALL
from flambeau_operator.resources.rules import Rule, rule
from flambeau_operator.resources.source import Source, Version
from flambeau_operator.resources.wish import Wish

HeaderName = Annotated[
    str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]+$")
]
"""A token of RFC 9110: the name of a header or of a cookie."""


class SplitVersion(Wish):
    """One of the other versions."""

    version: Version
    """Its name."""
    weight: Annotated[StrictInt, Field(ge=1, le=99)]
    """Percent of the requests that name no version."""
    source: Source
    """Where its archive is."""


class Split(Wish):
    """A lasting split of the requests (A/B), and what keeps a caller with one version."""

    sticky_header: HeaderName | None = None
    """Requests with the same value of this header get the same version; so does a canary."""
    sticky_cookie: HeaderName | None = None
    """The same, by a cookie; not together with stickyHeader."""
    versions: Annotated[tuple[SplitVersion, ...], Field(max_length=8)] = ()
    """The others: the model's own version gets 100 less their sum."""

    rules: ClassVar[tuple[Rule, ...]] = (
        rule(
            "!(has(self.stickyHeader) && has(self.stickyCookie))",
            "cannot stand beside stickyHeader: a caller is known by one thing",
            ".stickyCookie",
            lambda self: self.sticky_header is None or self.sticky_cookie is None,
        ),
        rule(
            "self.versions.map(v, v.weight).sum() < 100",
            "must leave something to the model's own version: their weights add up to 99 at most",
            ".versions",
            lambda self: sum(each.weight for each in self.versions) < ALL,
        ),
        rule(
            "self.versions.all(a, self.versions.exists_one(b, b.version == a.version))",
            "must name each version once",
            ".versions",
            lambda self: len({each.version for each in self.versions}) == len(self.versions),
        ),
    )


class Shadow(Wish):
    """A version that is asked beside the one that answers; its own answers are dropped."""

    version: Version
    """Its name."""
    percent: Annotated[StrictInt, Field(ge=1, le=100)] = 100
    """How many of the requests are copied."""
    source: Source
    """Where its archive is."""
    compare: Comparison | None = None
    """When two answers count as the same; absent means byte for byte, JSON by value."""
