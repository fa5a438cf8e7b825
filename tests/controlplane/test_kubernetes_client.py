"""What an API server's answers mean to the operator."""

import asyncio
import time

import pytest
from kubernetes.aio.client.configuration import Configuration

from flambeau_operator.errors import Conflict, Rejected, Unavailable
from flambeau_operator.kubernetes.client import Api, Expired
from tests.controlplane.fake_api import FakeApi, refusal

PATH = "/api/v1/namespaces/team/services/vision"
UNKNOWN = "failed to create typed patch object: .spec.nonsense: field not declared in schema"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        pytest.param(refusal(409, "Conflict", "changed"), Conflict, id="it changed meanwhile"),
        pytest.param(refusal(410, "Expired", "too old"), Expired, id="history is lost"),
        pytest.param(refusal(422, "Invalid", "port"), Rejected, id="the object is invalid"),
        pytest.param(refusal(400, "BadRequest", "what"), Rejected, id="the request is wrong"),
        pytest.param(refusal(403, "Forbidden", "no"), Rejected, id="it is not allowed"),
        pytest.param(refusal(500, "", UNKNOWN), Rejected, id="a field that no schema knows"),
        pytest.param(refusal(500, "InternalError", "etcd"), Unavailable, id="it failed"),
        pytest.param(refusal(503, "ServiceUnavailable", ""), Unavailable, id="it is starting"),
        pytest.param(refusal(401, "Unauthorized", ""), Unavailable, id="the token is renewed"),
        pytest.param((502, {}, b"<html>bad gateway"), Unavailable, id="a proxy speaks for it"),
        pytest.param((200, {}, b"<html>"), Unavailable, id="an answer in another language"),
        pytest.param((200, {}, b"[]"), Unavailable, id="an answer of another shape"),
    ],
)
async def test_a_refusal_means(answer, fault):
    fake = FakeApi()
    async with fake.serving() as api:
        fake.answers.append(answer)
        with pytest.raises(fault) as raised:
            await api.apply(PATH, {"metadata": {}})
    assert type(raised.value) is fault


async def test_what_is_not_there_is_none():
    fake = FakeApi()
    async with fake.serving() as api:
        fake.answers.append(refusal(404, "NotFound", "no such service"))
        assert await api.get(PATH) is None


async def test_a_busy_api_server_is_left_alone_for_as_long_as_it_asks():
    fake = FakeApi()
    async with fake.serving() as api:
        fake.answers.append(refusal(429, "TooManyRequests", "later", **{"Retry-After": "1"}))
        begin = time.monotonic()
        await asyncio.gather(api.get(PATH), api.get(PATH))
    assert time.monotonic() - begin >= 1
    assert len(fake.asked) == 3


async def test_an_api_server_that_stays_busy_is_unavailable():
    fake = FakeApi()
    async with fake.serving() as api:
        fake.answers += [refusal(429, "TooManyRequests", "later", **{"Retry-After": "0"})] * 3
        with pytest.raises(Unavailable, match="busy"):
            await api.get(PATH)


async def test_an_api_server_that_is_not_there_is_unavailable():
    async with Api(Configuration(host="http://127.0.0.1:1")) as api:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await api.get(PATH)
