"""One finding for each thing that a rollout's analysis looks at: the numbers, and what they break.

A limit against the old version asks two questions, and both must be answered with yes. Is the new
version worse at all? That is the question of certainty: the answer is wrong for an equal version
as rarely as `FALSE_ALARMS` says. Is it worse by more than is allowed? Here it may be wrong for one
version in ten that lies just at the limit, which therefore is found much sooner when it is beyond.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

from flambeau_operator.plan.evidence import Count, above, quantile_is_worse, rate_is_worse
from flambeau_operator.plan.latency import Histogram
from flambeau_operator.resources.rollout import ErrorRate, FailOn, Latency

FALSE_ALARMS = 0.02
"""At most this share of equal versions is failed, in all steps and by all limits together."""
AT_THE_LIMIT = log(10)
"""Of versions that lie just at a limit against the old one, one in ten may be failed for it."""
LONGEST_MESSAGE = 300
LONGEST_EXAMPLE = 100
TEN_SECONDS_MS, HUNDRED_MS = 10_000.0, 100.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Complaint:
    """A limit that is not kept, as measured; `certain` if that can hardly be chance."""

    words: str
    certain: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """What was measured of both versions, and which limits it does not keep."""

    facts: str
    complaints: tuple[Complaint, ...] = ()

    @property
    def failed(self) -> bool:
        """Tell whether a limit is certainly broken."""
        return any(each.certain for each in self.complaints)

    def in_words(self) -> str:
        """Return the facts with the complaints; the uncertain ones only if there are no others."""
        certain = [each.words for each in self.complaints if each.certain]
        said = certain or [each.words for each in self.complaints]
        return f"{self.facts}: {' and '.join(said)}" if said else self.facts


@dataclass(frozen=True, slots=True)
class Side:
    """What one version did, put right: no negative counts, no more errors than requests."""

    requests: int
    errors: int
    restarts: int
    latency: Histogram

    @property
    def error_rate(self) -> Count:
        """Return the errors of the requests."""
        return Count(self.errors, self.requests)


def limits(rules: FailOn) -> int:
    """Return how many limits are judged by statistics; they share the false alarms."""
    rates = [rules.error_rate.max, rules.error_rate.max_increase] if rules.error_rate else []
    times = [limit for _, _, each in _quantiles(rules) for limit in (each.max_s, each.max_increase)]
    answers = [rules.answers.max_different] if rules.answers else []
    return sum(limit is not None for limit in [*rates, *times, *answers])


def compares(rules: FailOn) -> bool:
    """Tell whether a limit is held against the old version."""
    rate = rules.error_rate.max_increase if rules.error_rate else None
    return rate is not None or compares_latency(rules)


def judges_latency(rules: FailOn) -> bool:
    """Tell whether there are limits of latency."""
    return any(True for _ in _quantiles(rules))


def compares_latency(rules: FailOn) -> bool:
    """Tell whether a limit of latency is held against the old version."""
    return any(each.max_increase is not None for _, _, each in _quantiles(rules))


def _quantiles(rules: FailOn) -> Iterator[tuple[str, float, Latency]]:
    named = (
        ("p50", 0.5, rules.latency_p50),
        ("p95", 0.95, rules.latency_p95),
        ("p99", 0.99, rules.latency_p99),
    )
    return ((name, quantile, rule) for name, quantile, rule in named if rule is not None)


def errors(rule: ErrorRate | None, old: Side | None, new: Side, needed: float) -> Finding:
    """Judge the errors; the facts are told even if nothing limits them."""
    rate, rule = new.error_rate, rule or ErrorRate()
    facts, complaints = f"errors {_share(rate)}", []
    if old is not None:
        facts += f", the old version {_share(old.error_rate)}"
    if rule.max is not None and rate.share > rule.max / 100 + _ROUNDING:
        certain = above(rate, rule.max / 100) >= needed
        complaints.append(Complaint(f"more than the {percent(rule.max)} allowed", certain))
    if old is not None and rule.max_increase is not None:
        increase = rule.max_increase / 100
        if rate.share - old.error_rate.share > increase + _ROUNDING:
            certain = rate_is_worse(rate, old.error_rate, 0.0, needed) and rate_is_worse(
                rate, old.error_rate, increase, min(needed, AT_THE_LIMIT)
            )
            words = f"above it by more than the {percent(rule.max_increase)} allowed"
            complaints.append(Complaint(words, certain))
    return Finding(facts, tuple(complaints))


def latencies(rules: FailOn, old: Side | None, new: Side, needed: float) -> Iterator[Finding]:
    """Judge each quantile that has a limit."""
    for name, quantile, rule in _quantiles(rules):
        yield _latency(name, quantile, rule, (old, new), needed)


def _latency(
    name: str, quantile: float, rule: Latency, sides: tuple[Side | None, Side], needed: float
) -> Finding:
    old = sides[0].latency if sides[0] else None
    new = sides[1].latency
    took, took_before = new.quantile_ms(quantile), old.quantile_ms(quantile) if old else None
    facts, complaints = f"{name} {_quantile(new, quantile)}", []
    if old is not None:
        facts += f", the old version {_quantile(old, quantile)}"
    if took is not None and rule.max_s is not None and took > rule.max_s * 1000 + _ROUNDING:
        slow = Count(new.above(rule.max_s * 1000), new.total)
        words = f"{_time(rule.max_s * 1000)} allowed"
        complaints.append(Complaint(words, above(slow, 1 - quantile) >= needed))
    if old is not None and took and took_before and rule.max_increase is not None:
        factor = 1 + rule.max_increase / 100
        if took > took_before * factor + _ROUNDING:
            certain = quantile_is_worse(new, old, quantile, 1.0, needed) and quantile_is_worse(
                new, old, quantile, factor, min(needed, AT_THE_LIMIT)
            )
            slower = percent((took / took_before - 1) * 100)
            words = f"{slower} slower, {percent(rule.max_increase)} allowed"
            complaints.append(Complaint(words, certain))
    return Finding(facts, tuple(complaints))


def restarts(most: int, old: Side | None, new: Side) -> Finding:
    """Judge the workers' restarts by plain counting: each one is a fact, not a sample."""
    facts = plural(new.restarts, "worker restart")
    if old is not None:
        facts += f", the old version {old.restarts:,}"
    if new.restarts <= most:
        return Finding(facts)
    return Finding(facts, (Complaint(f"{most:,} allowed", certain=True),))


def answers(most: float, different: Count, example: str, needed: float) -> Finding:
    """Judge the answers to copied requests that differ from the old version's."""
    facts = f"different answers {_share(different)}"
    if different.share <= most / 100 + _ROUNDING:
        return Finding(facts)
    words = f"more than the {percent(most)} allowed"
    if example:
        words += f", the first: {example[:LONGEST_EXAMPLE]}"
    return Finding(facts, (Complaint(words, above(different, most / 100) >= needed),))


def percent(value: float) -> str:
    """Write percent as people read them: `0.85 %`, `5.2 %`, `72 %`."""
    digits = next((n for least, n in ((10, 0), (1, 1), (0.01, 2)) if abs(value) >= least), 4)
    text = f"{value:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def plural(count: int, noun: str) -> str:
    """Write `1 pod`, `2 pods`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def join(findings: Sequence[str]) -> str:
    """Return as many findings as fit into a message; of the first one, what fits."""
    first, *others = findings
    text = first if len(first) <= LONGEST_MESSAGE else f"{first[: LONGEST_MESSAGE - 1]}…"
    for each in others:
        if len(text) + len(each) + 2 > LONGEST_MESSAGE:
            break
        text += f"; {each}"
    return text


def _share(count: Count) -> str:
    return f"{percent(count.share * 100)} ({count.hits:,.0f} of {count.total:,.0f})"


def _quantile(latency: Histogram, quantile: float) -> str:
    ms = latency.quantile_ms(quantile)
    if ms is None:
        return "unknown"
    return f"more than {_time(ms)}" if latency.goes_beyond(quantile) else _time(ms)


def _time(ms: float) -> str:
    if ms >= TEN_SECONDS_MS:
        return f"{ms / 1000:,.1f} s"
    return f"{ms:.3g} ms" if ms < HUNDRED_MS else f"{ms:,.0f} ms"
