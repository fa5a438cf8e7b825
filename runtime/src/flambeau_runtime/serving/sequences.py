"""The queue of a model that keeps state: every request belongs to a sequence, in order, one worker.

A sequence begins with the first request that names it and is bound to the worker with the fewest.
One of its jobs is at work at a time; jobs of different sequences share a batch. It ends when it has
been idle for too long, or is too old and has nothing left to do; or when the handler says so.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping

from flambeau_runtime.errors import RuntimeFault, SequenceRefused, WorkerLost
from flambeau_runtime.serving.batching import SWEEP_EVERY_S, JobQueue, Puller
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.desired import VersionSpec
from flambeau_runtime.serving.job import Job, Payload
from flambeau_runtime.serving.modes import USUAL_HEADERS, SequenceHeaders, SequenceLimits


class Sequence:
    """One sequence: its jobs that wait, and the worker that has its state."""

    __slots__ = ("began_at", "end", "key", "lane", "waiting", "working")

    def __init__(self, key: str, now: float) -> None:
        self.key = key
        self.began_at = now
        self.waiting: deque[Job] = deque()
        self.lane: Puller | None = None
        self.working = False  # one of its jobs is with the worker
        self.end: asyncio.TimerHandle | None = None


class SequenceQueue(JobQueue):
    """A JobQueue that hands a worker only jobs of the sequences that are bound to it."""

    __slots__ = ("_at_work", "_headers", "_limits", "_ready", "_sequences", "_unbound")

    def __init__(
        self,
        spec: VersionSpec,
        counters: Counters,
        limits: SequenceLimits,
        headers: SequenceHeaders = USUAL_HEADERS,
    ) -> None:
        super().__init__(spec, counters)
        self._limits = limits
        self._headers = headers
        self._sequences: dict[str, Sequence] = {}
        self._unbound: deque[Sequence] = deque()  # no worker has room for them yet
        self._ready: dict[Puller, deque[Sequence]] = {}  # bound, with a job that may go
        self._at_work: dict[Puller, dict[Job, Sequence]] = {}

    @property
    def end_header(self) -> str | None:
        """The header of an answer that names sequences which are over."""
        return self._headers.end

    def __len__(self) -> int:
        """How many jobs wait."""
        return sum(len(sequence.waiting) for sequence in self._sequences.values())

    def oldest_wait_s(self) -> float:
        """How long the longest waiting job has waited; 0 when none does."""
        heads = [each.waiting[0].queued_at for each in self._sequences.values() if each.waiting]
        return time.monotonic() - min(heads) if heads else 0.0

    def submit(self, job: Job) -> None:
        """Queue a job behind those of its sequence.

        Raises:
            SequenceRefused: there are too many sequences, or too many jobs of this one.
        """
        sequence = self._sequence_of(job.payload)
        behind = sequence.lane is not None and not sequence.working
        if len(sequence.waiting) >= self._limits.queue_size + behind:
            self._drop_ended_of(sequence)
            if len(sequence.waiting) >= self._limits.queue_size + behind:
                raise SequenceRefused(self.spec.model, self.spec.version)
        if sequence.end is not None:
            sequence.end.cancel()
            sequence.end = None
        sequence.waiting.append(job)
        self.outstanding += 1
        self.policy.saw(self.outstanding)
        if len(sequence.waiting) == 1 and not sequence.working:
            self._may_go(sequence)
        self._sweep_later()

    def attach(self, lane: Puller) -> None:
        """Take in a worker; it is idle."""
        self._ready[lane] = deque()
        self._attached.add(lane)
        self._bind_all()
        self.idle(lane)

    def detach(self, lane: Puller, *, lost: bool = False) -> None:
        """Forget a worker; its sequences begin anew with others."""
        self._attached.discard(lane)
        if lane in self._idle:
            self._idle.remove(lane)
        self._ready.pop(lane, None)
        for sequence in self._sequences.values():
            if sequence.lane is lane:
                sequence.lane = None
                if sequence.waiting and not sequence.working:
                    self._unbound.append(sequence)
        if lost:
            self._rest(self._at_work.pop(lane, {}))
        self._bind_all()

    def finished(self, lane: Puller, jobs: int, batch_s: float, now: float) -> None:
        """Take note that a batch is over; the worker may get the next one before this returns."""
        self.outstanding -= jobs
        self.policy.finished(batch_s, self.outstanding, now)
        self._rest(self._at_work.pop(lane, {}))
        if lane in self._attached:
            self.idle(lane)

    def more(self, lane: Puller, room: int) -> list[Job]:
        """Return what may join the batch of a worker that never ends it."""
        return self._collect_for(lane, room)

    def partly(self, lane: Puller, over: list[Job], batch_s: float, now: float) -> None:
        """Take note that some jobs of a worker's batch are over, while it goes on with others."""
        super().partly(lane, over, batch_s, now)
        team = self._at_work[lane]
        self._rest({job: team.pop(job) for job in over})

    def again(self, batches: list[list[Job]]) -> None:
        """Fail the jobs of a worker that ended: no other has the state that they need."""
        fault = WorkerLost("Worker died. The state of this sequence is lost with it.")
        for job in [job for batch in batches for job in batch]:
            self.outstanding -= 1
            self._blame(job)
            job.fail(fault)

    def sequence_of(self, headers: bytes) -> str | None:
        """Return the sequence that a request names; None where it names none."""
        return _find(headers, self._headers.id)

    def holds(self, sequence: str) -> bool:
        """Return whether a sequence has begun here and is not over."""
        return sequence in self._sequences

    def fail_all(self, fault: RuntimeFault) -> None:
        """End every waiting job, because no worker will come."""
        jobs = [job for sequence in self._sequences.values() for job in sequence.waiting]
        for sequence in [each for each in self._sequences.values() if not each.working]:
            self._end(sequence)
        self.outstanding -= len(jobs)
        for job in jobs:
            job.fail(fault)

    def consider(self) -> None:
        """See at the end of this turn which idle workers have something to do."""
        if self._turn is None and any(self._ready.get(lane) for lane in self._idle):
            self._turn = asyncio.get_running_loop().call_soon(self._on_turn)

    def end(self, keys: Iterable[str]) -> None:
        """End sequences because their handler said so; what still waits begins them anew."""
        for key in keys:
            sequence = self._sequences.get(key)
            if sequence is not None and not sequence.waiting and not sequence.working:
                self._end(sequence)

    # inside

    def _sequence_of(self, payload: Payload) -> Sequence:
        """Return the sequence that a request names, or one of its own."""
        key = _find(payload.headers, self._headers.id)
        if key is None:
            key = f"ts-seq-{uuid.uuid4()}"
            begins = f"{self._headers.start}: true\r\n{self._headers.id}: {key}\r\n"
            payload.headers += begins.encode()
        sequence = self._sequences.get(key)
        if sequence is None:
            if len(self._sequences) >= self._limits.max_count:
                raise SequenceRefused(self.spec.model, self.spec.version)
            sequence = self._sequences[key] = Sequence(key, time.monotonic())
        return sequence

    def _may_go(self, sequence: Sequence) -> None:
        """Let the first job of a sequence go as soon as its worker is idle."""
        if sequence.lane is None:
            self._unbound.append(sequence)
            self._bind_all()
        else:
            self._ready[sequence.lane].append(sequence)
            self.consider()

    def _bind_all(self) -> None:
        """Give sequences to the workers with the fewest, while any has room."""
        room = -(-self._limits.max_count // max(self.spec.workers, 1))
        while self._unbound and self._attached:
            bound = dict.fromkeys(self._attached, 0)
            for sequence in self._sequences.values():
                if sequence.lane in bound:
                    bound[sequence.lane] += 1
            lane = min(bound, key=lambda each: bound[each])
            if bound[lane] >= room:
                break
            sequence = self._unbound.popleft()
            if sequence.waiting and sequence.lane is None:
                sequence.lane = lane
                self._ready[lane].append(sequence)
        self.consider()

    def _on_turn(self) -> None:
        self._turn = None
        for lane in list(self._idle):
            batch = self._collect_for(lane, self.policy.max_size)
            if batch:
                self._idle.remove(lane)
                lane.take(batch)
        self._tell_late()

    def _collect_for(self, lane: Puller, room: int) -> list[Job]:
        """Return one job each of the sequences of a worker, in order."""
        ready = self._ready.get(lane)
        batch: list[Job] = []
        while ready and len(batch) < room:
            sequence = ready.popleft()
            if sequence.working:
                continue  # it was listed twice: all that waited had expired in between
            self._drop_ended_of(sequence)
            if sequence.waiting:
                job = sequence.waiting.popleft()
                sequence.working = True
                self._at_work.setdefault(lane, {})[job] = sequence
                batch.append(job)
            else:
                self._end_later(sequence)
        return batch

    def _rest(self, over: Mapping[Job, Sequence]) -> None:
        """Take note that jobs are over: the next of each sequence may go, or its end is near."""
        for sequence in over.values():
            sequence.working = False
            if sequence.waiting:
                self._may_go(sequence)
            else:
                self._end_later(sequence)

    def _end_later(self, sequence: Sequence) -> None:
        if self._sequences.get(sequence.key) is not sequence:
            return
        if sequence.end is not None:
            sequence.end.cancel()
        now = time.monotonic()
        rest_s = self._limits.max_idle_s
        if self._limits.timeout_s:
            rest_s = min(rest_s, sequence.began_at + self._limits.timeout_s - now)
        loop = asyncio.get_running_loop()
        sequence.end = loop.call_later(max(rest_s, 0.0), self._end, sequence)

    def _end(self, sequence: Sequence) -> None:
        if sequence.end is not None:
            sequence.end.cancel()
            sequence.end = None
        sequence.waiting.clear()
        if self._sequences.get(sequence.key) is sequence:
            del self._sequences[sequence.key]
        sequence.lane = None
        self._bind_all()

    def _drop_ended_of(self, sequence: Sequence) -> None:
        live = self._live(list(sequence.waiting))
        sequence.waiting.clear()
        sequence.waiting.extend(live)

    def _on_sweep(self) -> None:
        """End jobs whose deadline passes while their sequence waits."""
        self._sweep = None
        for sequence in list(self._sequences.values()):
            if sequence.waiting:
                self._drop_ended_of(sequence)
                if not sequence.waiting and not sequence.working:
                    self._end_later(sequence)
        self._tell_late()
        if len(self):
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_EVERY_S, self._on_sweep)


def _find(headers: bytes, name: str) -> str | None:
    """Return the value of a header, whatever the case of its name; None without one."""
    wanted = name.lower().encode()
    for line in headers.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == wanted and value.strip():
            return value.strip().decode("latin-1")
    return None
