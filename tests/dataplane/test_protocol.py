import pytest
from hypothesis import given, strategies as st

from flambeau_runtime import protocol
from flambeau_runtime.protocol import Garbage, Kind
from flambeau_runtime.serving.job import Payload
from flambeau_runtime.worker.context import RowResult

texts = st.text(max_size=40)
header_texts = st.text(max_size=20).filter(lambda text: not set(text) & set("\r\n\0"))
payloads = st.builds(
    Payload,
    st.text(max_size=60),
    st.binary(max_size=200),
    st.binary(max_size=300),
    texts,
    texts,
    st.booleans(),
    st.booleans(),
)
results = st.builds(
    RowResult,
    st.binary(max_size=300),
    st.integers(0, 0xFFFF),
    header_texts,
    st.lists(st.tuples(header_texts, header_texts), max_size=4).map(tuple),
)


class Place:
    def __init__(self, offset, flag=protocol.IN_ARENA):
        self.offset = offset
        self.flag = flag


def split(frame):
    length, batch, kind = protocol.read_header(frame)
    assert length == len(frame) - protocol.HEADER.size
    return batch, kind, memoryview(frame)[protocol.HEADER.size :]


@given(st.integers(0, 2**32 - 1), st.lists(payloads, max_size=8))
def test_a_batch_arrives_as_it_was_sent(number, rows):
    batch, kind, payload = split(b"".join(protocol.pack_predict(number, rows)))
    assert (batch, kind) == (number, Kind.PREDICT)
    arrived = protocol.unpack_predict(payload)
    assert [
        (r.request_id, r.headers, bytes(r.body), r.content_type, r.url_path, r.explain, r.describe)
        for r in arrived
    ] == [
        (r.request_id, r.headers, r.body, r.content_type, r.url_path, r.explain, r.describe)
        for r in rows
    ]
    assert all(row.offset == -1 for row in arrived)


@given(st.lists(payloads, min_size=1, max_size=5), st.integers(0, 2**40))
def test_a_body_in_the_arena_is_told_by_place_and_size_only(rows, offset):
    body = rows[0].body
    rows[0].region = Place(offset)
    _, _, payload = split(b"".join(protocol.pack_predict(1, rows)))
    first, *others = protocol.unpack_predict(payload)
    assert (first.offset, first.size, bytes(first.body)) == (offset, len(body), b"")
    assert [bytes(row.body) for row in others] == [row.body for row in rows[1:]]


@given(st.integers(0, 2**32 - 1), st.lists(results, max_size=8))
def test_answers_arrive_as_they_were_sent(number, answers):
    batch, kind, payload = split(protocol.pack_end(number, answers))
    assert (batch, kind) == (number, Kind.END)
    assert [
        (status, phrase, headers, bytes(body))
        for status, phrase, headers, body in protocol.unpack_end(payload)
    ] == [(a.status, a.phrase, a.headers, a.body) for a in answers]


def test_nothing_a_handler_sets_ends_a_line_of_the_answer():
    answer = RowResult(b"", 200, "fine\r\nX: 1", (("a\n", "b\r\nSet-Cookie: c\0"),))
    _, _, payload = split(protocol.pack_end(1, [answer]))
    [(_, phrase, headers, _)] = protocol.unpack_end(payload)
    assert phrase == "fine  X: 1"
    assert headers == (("a ", "b  Set-Cookie: c "),)


@given(st.binary(max_size=400))
def test_random_bytes_are_garbage_or_rows_but_never_another_error(data):
    for unpack in (protocol.unpack_end, lambda view: protocol.unpack_predict(memoryview(view))):
        try:
            rows = unpack(data)
        except Garbage:
            continue
        assert isinstance(rows, list)


@given(st.lists(results, min_size=1, max_size=4), st.data())
def test_a_frame_cut_short_is_garbage(answers, data):
    _, _, payload = split(protocol.pack_end(1, answers))
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(Garbage):
        protocol.unpack_end(payload[:cut])


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(protocol.HEADER.pack(1, 1, 0), id="kind 0 does not exist"),
        pytest.param(protocol.HEADER.pack(1, 1, 11), id="kinds end with METRICS"),
        pytest.param(protocol.HEADER.pack(1, 1, 5)[:-1] + b"\x01", id="padding is zero"),
        pytest.param(protocol.HEADER.pack(101, 1, 5), id="a length has a limit"),
        pytest.param(b"GET / HTTP/1", id="another protocol's first bytes"),
    ],
)
def test_headers_that_are_refused(header):
    with pytest.raises(Garbage):
        protocol.read_header(header, limit=100)
