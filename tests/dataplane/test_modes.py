import pytest

from flambeau_runtime.errors import NoTicket
from flambeau_runtime.serving.batching import JobQueue
from flambeau_runtime.serving.counters import Counters
from flambeau_runtime.serving.modes import USUAL_HEADERS, Mode, SequenceLimits, read_mode
from flambeau_runtime.serving.queues import TicketQueue, make_queue
from flambeau_runtime.serving.sequences import SequenceQueue
from tests.dataplane.fake_worker import FakeWorker, new_job, new_queue


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        pytest.param({}, Mode(), id="nothing is special"),
        pytest.param({"continuousBatching": True}, Mode(continuous=True), id="continuous"),
        pytest.param({"continuousBatching": "true"}, Mode(), id="a text is not a switch"),
        pytest.param({"useJobTicket": True}, Mode(job_ticket=True), id="tickets"),
        pytest.param({"clientTimeoutInMills": 500}, Mode(client_timeout_s=0.5), id="in ms"),
        pytest.param({"clientTimeoutInMills": 0}, Mode(), id="0 ms is for ever"),
        pytest.param({"clientTimeoutInMills": "5"}, Mode(), id="a text is not a number"),
        pytest.param({"maxNumSequence": 4}, Mode(), id="limits alone do not make sequences"),
        pytest.param(
            {"sequenceBatching": True},
            Mode(sequences=SequenceLimits(0.0, 0.0, 1, 1)),
            id="defaults",
        ),
        pytest.param(
            {
                "sequenceBatching": True,
                "sequenceMaxIdleMSec": 2500,
                "sequenceTimeoutMSec": 5000,
                "maxNumSequence": 4,
                "maxSequenceJobQueueSize": 3,
            },
            Mode(sequences=SequenceLimits(2.5, 5.0, 4, 3)),
            id="all limits",
        ),
    ],
)
def test_a_mode_is_read_from_the_models_config(config, mode):
    assert read_mode(config) == mode


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (Mode(), JobQueue),
        (Mode(job_ticket=True), TicketQueue),
        (Mode(sequences=SequenceLimits()), SequenceQueue),
    ],
)
def test_each_mode_has_its_queue(mode, kind):
    assert type(make_queue(new_queue().spec, Counters(), mode, USUAL_HEADERS)) is kind


async def test_with_tickets_a_job_is_taken_only_when_a_worker_is_idle():
    queue = TicketQueue(new_queue(size=1).spec, Counters())
    with pytest.raises(NoTicket, match="has no worker to serve inference request"):
        queue.submit(new_job())
    worker = await FakeWorker(queue).start()
    first, second = new_job(b"a"), new_job(b"b")
    queue.submit(first)
    with pytest.raises(NoTicket):
        queue.submit(second)
    worker.answer(*(await worker.batch()))
    await first.reply.end()
    queue.submit(second)
    worker.answer(*(await worker.batch()))
    assert (await second.reply.end()).body == b"b"
    await worker.close()
