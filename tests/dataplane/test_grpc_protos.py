"""The gRPC messages are TorchServe's on the wire, and what is written from them is up to date."""

import importlib.util
from pathlib import Path

import pytest

from flambeau_runtime.api.grpc.protos import (
    inference_pb2,
    open_inference_pb2,
    open_inference_v2_pb2,
    pool,
    status_pb2,
)
from tests.grpc_client import OPEN_INFERENCE, OPEN_INFERENCE_V2, OURS, PROTOS, our_messages

WRITER = OURS.parent / "write_protos.py"
FACTS = Path(__file__).with_name("torchserve_grpc.txt").read_text().splitlines()


def write_protos():
    spec = importlib.util.spec_from_file_location("write_protos", WRITER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_its_message(facts):
    """Return field lines behind the name of their message, all else as it is."""
    told, message = [], ""
    for line in facts:
        if line.startswith("    "):
            told.append(f"{message} {line.strip()}")
        else:
            told.append(line)
            message = line
    return told


def test_every_message_field_and_method_of_torchserve_is_ours_on_the_wire():
    ours = with_its_message(our_messages().facts())
    assert [fact for fact in with_its_message(FACTS) if fact not in ours] == []


def test_a_message_of_torchserve_has_no_field_more_here():
    theirs = with_its_message(FACTS)
    ours = [fact for fact in with_its_message(our_messages().facts()) if "org.pytorch" in fact[:12]]
    assert [fact for fact in ours if fact not in theirs] == []


def test_the_modules_are_what_make_protos_writes(tmp_path):
    (tmp_path / PROTOS).mkdir(parents=True)
    written = write_protos().write(tmp_path)
    assert len(written) == 10
    for path in written:
        kept = OURS / path.relative_to(tmp_path)
        assert kept.read_text() == path.read_text(), f"{kept} is stale: run make protos"


def test_the_open_inference_protocol_has_the_same_methods_under_both_names():
    torchserves = pool.POOL.FindServiceByName(OPEN_INFERENCE)
    everybodys = pool.POOL.FindServiceByName(OPEN_INFERENCE_V2)
    assert open_inference_v2_pb2.DESCRIPTOR.services_by_name
    for method in everybodys.methods:
        twin = torchserves.methods_by_name[method.name]
        assert (method.input_type, method.output_type) == (twin.input_type, twin.output_type)


def test_our_messages_leave_the_names_of_the_process_free():
    from google.protobuf import descriptor_pool  # noqa: PLC0415

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName(
            open_inference_pb2.ModelInferRequest.DESCRIPTOR.full_name
        )


def test_an_error_in_a_stream_carries_its_type_as_any():
    status = status_pb2.Status(code=13, message="why")
    status.details.add().Pack(status_pb2.ErrorInfo(reason="kind"))
    reply = inference_pb2.PredictionResponse(status=status)
    assert reply.status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
