"""Clients that ask without mercy: paced, never retrying, half of them connecting anew each time.

A request has failed if anything but the expected status and answer comes back, connection errors
included. What a server announces is honoured, as every HTTP client does: after `connection: close`
or an end of stream on an idle connection the next request opens another one.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Self
from urllib.parse import urlsplit

ANSWER_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def last_on_connection(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


class WrongAnswer(Exception):
    """An answer came, and it is not the one to expect."""


def expect(holds: object, complaint: str) -> None:
    """Raise WrongAnswer unless something holds."""
    if not holds:
        raise WrongAnswer(complaint)


@dataclass(frozen=True, slots=True)
class Question:
    """One request, and what makes its answer right.

    `check` returns a word about a right answer ("2.0") and raises WrongAnswer for another one.
    """

    path: str
    body: bytes
    check: Callable[[Answer], str]
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def encode(self, host: str, *, last: bool) -> bytes:
        lines = [f"POST {self.path} HTTP/1.1", f"host: {host}", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += ["connection: close"] if last else []
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Asked:
    """How one request went, on the loop's clock."""

    sent_at: float
    done_at: float
    word: str = ""  # what `check` said
    failure: str = ""  # empty: it went well

    @property
    def took_ms(self) -> float:
        return (self.done_at - self.sent_at) * 1000


class Connection:
    """One connection that sends a request and reads its answer."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, question: Question, *, last: bool = False) -> Answer:
        """Send one request and return its answer; opens a connection where none is left."""
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(question.encode(f"{self._host}:{self._port}", last=last))
        await writer.drain()
        answer = await read_answer(reader)
        if last or answer.last_on_connection:
            self.close()
        return answer

    def close(self) -> None:
        """Close without a word; the next request opens anew."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one response whose length is announced, as all of ours are."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(head[0].split(" ")[1]), headers, body)


@dataclass(slots=True)
class Load:
    """Clients that ask for as long as the block lasts.

    Args:
        url: where to.
        question: gives the n-th question.
        clients: how many; the odd ones connect anew for every request.
        rate: requests per second that all of them try to keep together.
    """

    url: str
    question: Callable[[int], Question]
    clients: int = 8
    rate: float = 160.0
    asked: list[Asked] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _over: bool = False
    _group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _started_at: float = 0.0
    _ended_at: float | None = None

    async def __aenter__(self) -> Self:
        self._started_at = asyncio.get_running_loop().time()
        await self._group.__aenter__()
        for number in range(self.clients):
            self._group.create_task(self._client(number, keep_alive=number % 2 == 0))
        return self

    async def __aexit__(self, *error: object) -> None:
        """Let every client finish the request it is in."""
        self._over = True
        await self._group.__aexit__(*error)  # type: ignore[arg-type]
        self._ended_at = asyncio.get_running_loop().time()

    @property
    def failed(self) -> list[Asked]:
        """The requests that did not go well."""
        return [each for each in self.asked if each.failure]

    @property
    def words(self) -> Counter[str]:
        """How often each word was said about a right answer."""
        return Counter(each.word for each in self.asked if not each.failure)

    @property
    def per_second(self) -> float:
        """Answers per second, so far or in all."""
        loop_time = asyncio.get_running_loop().time
        seconds = (self._ended_at or loop_time()) - self._started_at
        return len(self.asked) / seconds if seconds else 0.0

    def percentile_ms(self, percent: int) -> float:
        """How long so many percent of the requests took at most."""
        return statistics.quantiles([each.took_ms for each in self.asked], n=100)[percent - 1]

    async def more(self, answers: int, within_s: float = 60.0) -> None:
        """Return when so many more requests have been answered."""
        goal = len(self.asked) + answers
        async with asyncio.timeout(within_s):
            while len(self.asked) < goal:  # noqa: ASYNC110  the clients only append, and often
                await asyncio.sleep(0.02)

    async def _client(self, number: int, *, keep_alive: bool) -> None:
        loop = asyncio.get_running_loop()
        interval_s = self.clients / self.rate
        due = loop.time() + interval_s * number / self.clients
        connection = Connection(self.url)
        while not self._over:
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.asked.append(await self._ask(connection, last=not keep_alive))
            due = max(due + interval_s, loop.time() - interval_s)
        connection.close()

    async def _ask(self, connection: Connection, *, last: bool) -> Asked:
        loop = asyncio.get_running_loop()
        question = self.question(next(self._numbers))
        sent_at = loop.time()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await connection.ask(question, last=last)
            return Asked(sent_at, loop.time(), word=question.check(answer))
        except (OSError, EOFError, ValueError, KeyError, WrongAnswer) as error:
            connection.close()
            kind = "kept" if not last else "new"
            failure = f"{type(error).__name__}: {error} ({kind} connection)"
            return Asked(sent_at, loop.time(), failure=failure)
