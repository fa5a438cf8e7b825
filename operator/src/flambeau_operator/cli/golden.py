"""Golden requests: what a version is asked in a trial, and what it answered."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from flambeau_operator.errors import OperatorFault
from flambeau_operator.plan.differences import difference
from flambeau_operator.resources.comparison import Comparison
from flambeau_operator.resources.model_deployment import Model

FIELDS: Final = frozenset({"body", "bodyFile", "bodyBase64", "contentType", "expect", "model"})
BODIES: Final = ("body", "bodyFile", "bodyBase64")
LONGEST_SHOWN: Final = 200


class UnreadableRequests(OperatorFault):
    """The file with the golden requests is not what it should be."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One request."""

    body: bytes
    content_type: str = "application/json"
    expect: bytes | None = None  # the answer that it must have, as JSON or as bytes
    model: str | None = None  # whose it is; None: every model's
    where: str = ""  # in words: "requests.jsonl:3"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer."""

    status: int  # of HTTP; 0: there was none
    body: bytes
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether it is a prediction."""
        return self.status == http.client.OK

    def __str__(self) -> str:
        text = self.body.decode(errors="replace").strip()
        return f"{self.status or 'no answer'}: {text[:LONGEST_SHOWN]}"


def read_requests(file: Path) -> tuple[Golden, ...]:
    """Read JSON lines; empty ones do not count.

    Raises:
        UnreadableRequests: with the line that is wrong.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UnreadableRequests(f"{file}: cannot be read: {error}") from error
    found = tuple(_read(file, number, line) for number, line in enumerate(lines, 1) if line.strip())
    if not found:
        raise UnreadableRequests(f"{file}: there is no request in this file")
    return found


def _read(file: Path, number: int, line: str) -> Golden:
    where = f"{file}:{number}"
    try:
        said = json.loads(line)
    except ValueError as error:
        raise UnreadableRequests(f"{where}: not JSON: {error}") from error
    if not isinstance(said, dict):
        raise UnreadableRequests(f"{where}: expected an object: {{body, contentType, expect}}")
    if unknown := sorted(said.keys() - FIELDS):
        known = ", ".join(sorted(FIELDS))
        raise UnreadableRequests(f"{where}: {unknown[0]}: unknown; there are {known}")
    if sum(each in said for each in BODIES) != 1:
        raise UnreadableRequests(f"{where}: give one of {', '.join(BODIES)}")
    expect = _as_bytes(said["expect"]) if "expect" in said else None
    content_type = str(said.get("contentType", "application/json"))
    return Golden(_body(file, where, said), content_type, expect, said.get("model"), where)


def _body(file: Path, where: str, said: Mapping[str, Any]) -> bytes:
    try:
        if "bodyFile" in said:
            return (file.parent / str(said["bodyFile"])).read_bytes()
        if "bodyBase64" in said:
            return base64.b64decode(said["bodyBase64"], validate=True)
    except (OSError, ValueError, TypeError) as error:
        raise UnreadableRequests(f"{where}: the body cannot be read: {error}") from error
    return _as_bytes(said["body"])


def _as_bytes(value: object) -> bytes:
    """Return text as it is, and everything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode()


def warmup_requests(model: Model) -> tuple[Golden, ...]:
    """Return the requests that a model is warmed up with."""
    return tuple(
        Golden(each.body.encode(), each.content_type, None, model.name, f"warm-up {number}")
        for number, each in enumerate(model.warmup.requests, 1)
    )


def unexpected(golden: Golden, answer: Answered, rules: Comparison | None) -> str | None:
    """Return how an answer differs from the one that the request must have, if it must."""
    if golden.expect is None or answer.body.strip() == golden.expect.strip():
        return None
    text = json.dumps(golden.expect.decode(errors="replace")).encode()
    ways = [difference(wanted, answer.body, rules) for wanted in (golden.expect, text)]
    return None if None in ways else ways[0]


@dataclass(frozen=True, slots=True)
class Question:
    """One request, and whom it is for."""

    golden: Golden
    model: str
    version: str


def ask_all(
    url: str, questions: Sequence[Question], timeout_s: float
) -> Iterator[tuple[Question, Answered]]:
    """Ask one after the other, over one connection, as long as that holds."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port or 80, timeout=timeout_s
    )
    try:
        for each in questions:
            yield each, _ask(connection, each)
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection, question: Question) -> Answered:
    path = f"/predictions/{quote(question.model, safe='')}/{quote(question.version, safe='')}"
    began = time.perf_counter()
    try:
        headers = {"content-type": question.golden.content_type}
        connection.request("POST", path, question.golden.body, headers)
        response = connection.getresponse()
        body = response.read()
        return Answered(response.status, body, time.perf_counter() - began)
    except (OSError, http.client.HTTPException) as error:
        connection.close()  # the next request opens it anew
        return Answered(0, str(error).encode(), time.perf_counter() - began)


def quantile_ms(seconds: Sequence[float], share: float) -> float | None:
    """Return a quantile of some times in milliseconds: the smallest that so many do not exceed."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    at = min(int(share * len(ordered)), len(ordered) - 1)
    return round(ordered[at] * 1000, 3)
