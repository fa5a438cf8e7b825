import pytest
from hypothesis import given, strategies as st

from flambeau_runtime.api.chunked import ChunkedBody, Stage
from flambeau_runtime.errors import BadRequest, PayloadTooLarge


def encode(chunks):
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks if c) + b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=50), max_size=6), st.binary(max_size=20), st.data())
def test_a_body_is_the_same_wherever_it_is_cut(chunks, following, data):
    message = encode(chunks) + following
    body = ChunkedBody(10_000)
    position = 0
    while body.stage is not Stage.DONE:
        step = data.draw(st.integers(1, len(message) - position))
        taken = body.take(message[position : position + step])
        position += taken
    assert bytes(body.body) == b"".join(chunks)
    assert message[position:] == following


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"g\r\n", id="a size that is not hexadecimal"),
        pytest.param(b"-1\r\n", id="a negative size"),
        pytest.param(b"0x5\r\nhello\r\n", id="a size with a prefix"),
        pytest.param(b"\r\n", id="no size"),
        pytest.param(b"5\nhello\r\n", id="a bare line feed"),
        pytest.param(b"5\r\nhelloX\r\n", id="a chunk longer than its size"),
        pytest.param(b"5;" + b"x" * 5000, id="an endless extension"),
        pytest.param(b"0\r\n" + b"X-A: b\r\n" * 1000, id="endless trailers"),
        pytest.param(b"1" * 17 + b"\r\n", id="a size beyond 64 bits"),
    ],
)
def test_what_is_no_chunked_body(message):
    with pytest.raises(BadRequest):
        ChunkedBody(10_000).take(message)


def test_a_body_may_not_grow_beyond_the_limit():
    body = ChunkedBody(8)
    body.take(b"5\r\nhello\r\n")
    with pytest.raises(PayloadTooLarge):
        body.take(b"5\r\nworld\r\n")


def test_trailers_and_extensions_are_read_and_dropped():
    body = ChunkedBody(100)
    assert body.take(b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\nNEXT") == 29
    assert (bytes(body.body), body.stage) == (b"hello", Stage.DONE)
