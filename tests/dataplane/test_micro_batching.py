"""MicroBatching: a handler's steps at work on parts of one batch at once."""

import threading

import pytest

from flambeau_runtime.worker.context import Context
from ts.handler_utils.micro_batching import HANDLER_METHODS, MicroBatching


class Doubling:
    """Three steps that leave a trace of who ran them."""

    def __init__(self):
        self.parts = []
        self.threads = {step: set() for step in HANDLER_METHODS}
        self.handle = MicroBatching(self)
        self.asked = {}

    def _note(self, step):
        self.threads[step].add(threading.current_thread().name)

    def preprocess(self, data):
        self._note("preprocess")
        self.parts.append((self.handle.get_micro_batch_idx(), len(data)))
        return [float(x) for x in data]

    def inference(self, data):
        self._note("inference")
        return [x * 2 for x in data]

    def postprocess(self, data):
        self._note("postprocess")
        return data

    def explain_handle(self, ready, raw):
        return [("explained", ready, raw)]

    def describe_handle(self):
        return "described"

    def _is_explain(self):
        return self.asked == "explain"

    def _is_describe(self):
        return self.asked == "describe"


@pytest.fixture
def context():
    return Context("m", ".", {}, 4, None)


@pytest.fixture
def handler():
    handler = Doubling()
    yield handler
    handler.handle.shutdown()


def names_of(context):
    return [update["name"] for update in context.metrics.drain()]


def test_a_batch_is_cut_into_parts_and_joined_in_order(handler, context):
    handler.handle.micro_batch_size = 3
    assert handler.handle(list(range(8)), context) == [float(2 * n) for n in range(8)]
    assert sorted(handler.parts) == [(0, 3), (1, 3), (2, 2)]


def test_the_time_of_the_whole_is_measured_as_a_handlers(handler, context):
    handler.handle([1], context)
    assert names_of(context) == ["HandlerTime"]


def test_each_step_has_threads_of_its_own(handler, context):
    handler.handle(list(range(20)), context)
    assert all(len(names) == 1 for names in handler.threads.values())
    assert len(set.union(*handler.threads.values())) == 3


def test_a_step_works_on_as_many_parts_at_once_as_it_has_threads(handler, context):
    together = threading.Barrier(3, timeout=10)
    handler.inference = lambda data: (together.wait() and data) or data
    handler.handle.parallelism = {"inference": 3}
    assert handler.handle.parallelism == {"inference": 3}
    assert handler.handle([1, 2, 3], context) == [1.0, 2.0, 3.0]


def test_one_part_is_prepared_while_another_is_in_the_model(handler, context):
    second_is_ready = threading.Event()

    def preprocess(data):
        if data == [2]:
            second_is_ready.set()
        return data

    def inference(data):
        assert second_is_ready.wait(10)
        return data

    handler.preprocess, handler.inference = preprocess, inference
    assert handler.handle([1, 2], context) == [1, 2]


def test_a_step_that_raises_fails_the_batch_and_the_next_one_works(handler, context):
    with pytest.raises(ValueError, match="could not convert string to float: 'x'"):
        handler.handle([1, "x", 2], context)
    assert handler.handle([3], context) == [6.0]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        pytest.param("explain", [("explained", [1.0], [1])], id="explanations"),
        pytest.param("describe", ["described"], id="descriptions"),
    ],
)
def test_what_is_no_prediction_goes_through_whole(handler, context, asked, answer):
    handler.asked = asked
    assert handler.handle([1], context) == answer


@pytest.mark.parametrize(
    ("threads", "says"),
    [
        pytest.param({"postproces": 1}, "'postproces' is none of preprocess, inf", id="no step"),
        pytest.param({"inference": 0}, "inference needs 1 thread or more, not 0", id="no thread"),
        pytest.param({"inference": "2"}, "not '2'", id="no number"),
    ],
)
def test_parallelism_that_cannot_be_is_refused(handler, threads, says):
    with pytest.raises(ValueError, match=says):
        handler.handle.parallelism = threads


def test_threads_end_when_asked_to(handler, context):
    handler.handle([1], context)
    names = set.union(*handler.threads.values())
    handler.handle.shutdown()
    assert not names & {thread.name for thread in threading.enumerate()}
