"""A gRPC client made from .proto files when it is needed, in a descriptor pool of its own.

So a test process can hold the messages of TorchServe beside ours, which have the same names.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
OURS = ROOT / "runtime/src"
PROTOS = "flambeau_runtime/api/grpc/protos"
INFERENCE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
MANAGEMENT = "org.pytorch.serve.grpc.management.ManagementAPIsService"
OPEN_INFERENCE = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
OPEN_INFERENCE_V2 = "inference.GRPCInferenceService"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

_TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


class Messages:
    """The messages and services of some .proto files."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        self.files = _described(folder, names)
        for file in self.files:
            self.pool.Add(file)

    def new(self, name: str, **fields: Any) -> Any:
        """Return a new message; `name` is its full one."""
        return self.message_class(name)(**fields)

    def message_class(self, name: str) -> Any:
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def method(self, service: str, name: str) -> MethodDescriptor:
        return self.pool.FindServiceByName(service).methods_by_name[name]

    def facts(self) -> list[str]:
        """Return a line for each message, field and method, as the wire knows them."""
        lines: list[str] = []
        for described in self.files:
            file = self.pool.FindFileByName(described.name)
            for message in file.message_types_by_name.values():
                _tell_message(message, lines)
            for service in file.services_by_name.values():
                lines += [_tell_method(method) for method in service.methods]
        return lines


def _described(folder: Path, names: tuple[str, ...]) -> list[descriptor_pb2.FileDescriptorProto]:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "descriptors"
        arguments = [
            f"-I{folder}",
            f"-I{resources.files('grpc_tools') / '_proto'}",
            "--include_imports",
            f"--descriptor_set_out={target}",
            *names,
        ]
        assert protoc.main(["protoc", *arguments]) == 0
        return list(descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file)


def _tell_message(message: Any, lines: list[str]) -> None:
    lines.append(message.full_name)
    lines += [f"    {field.number} {field.name} {_tell_type(field)}" for field in message.fields]
    for nested in message.nested_types:
        _tell_message(nested, lines)


def _tell_type(field: Any) -> str:
    if field.is_repeated:
        return f"repeated {_plain_type(field)}"
    is_choice = field.containing_oneof is not None and len(field.containing_oneof.fields) > 1
    may_lack = field.has_presence and field.message_type is None and not is_choice
    return f"optional {_plain_type(field)}" if may_lack else _plain_type(field)


def _plain_type(field: Any) -> str:
    return _TYPES[field.type] if field.message_type is None else field.message_type.full_name


def _tell_method(method: MethodDescriptor) -> str:
    asks = "stream " if method.client_streaming else ""
    answers = "stream " if method.server_streaming else ""
    name = f"/{method.containing_service.full_name}/{method.name}"
    return f"{name} {asks}{method.input_type.full_name} -> {answers}{method.output_type.full_name}"


@cache
def our_messages() -> Messages:
    """Return the messages of this checkout's own .proto files."""
    names = sorted(path.name for path in (OURS / PROTOS).glob("*.proto"))
    return Messages(OURS, *(f"{PROTOS}/{name}" for name in names))


@cache
def original_messages(environment: Path) -> Messages:
    """Return the messages of the .proto files that TorchServe's own wheel brings."""
    jar = next(environment.glob("lib/python*/site-packages/ts/frontend/model-server.jar"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with zipfile.ZipFile(jar) as archive:
            protos = [name for name in archive.namelist() if name.startswith("proto/")]
            archive.extractall(folder, [name for name in protos if name.endswith(".proto")])
        status = folder / "proto/google/rpc/status.proto"
        status.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(OURS / PROTOS / "status.proto", status)  # Google's own, as far as it is used
        names = sorted(path.name for path in (folder / "proto").glob("*.proto"))
        return Messages(folder / "proto", *names)


@dataclass(frozen=True)
class Failed:
    """How a call ended that has no answer."""

    code: str
    details: str


class Client:
    """Calls over one channel: `client.call(INFERENCE, "Predictions", model_name="m")`."""

    def __init__(self, messages: Messages, channel: grpc.Channel, timeout_s: float = 60.0) -> None:
        self.messages = messages
        self.channel = channel
        self._timeout_s = timeout_s

    def _of(self, service: str) -> Messages:
        # TorchServe has the Open Inference Protocol under a name of its own alone.
        return our_messages() if service == OPEN_INFERENCE_V2 else self.messages

    def request(self, service: str, method: str, **fields: Any) -> Any:
        """Return a request of a method."""
        kind = self._of(service).method(service, method).input_type
        return message_factory.GetMessageClass(kind)(**fields)

    def stub(self, service: str, method: str) -> Any:
        """Return what makes calls of a method."""
        found = self._of(service).method(service, method)
        request = message_factory.GetMessageClass(found.input_type)
        reply = message_factory.GetMessageClass(found.output_type)
        asks = "stream" if found.client_streaming else "unary"
        answers = "stream" if found.server_streaming else "unary"
        return getattr(self.channel, f"{asks}_{answers}")(
            f"/{service}/{method}", request.SerializeToString, reply.FromString
        )

    def call(
        self, service: str, method: str, _metadata: Any = (), _timeout_s: float = 0, **fields: Any
    ) -> Any:
        """Return the answer of a call, the list of answers of a stream, or how it Failed."""
        stub = self.stub(service, method)
        request = self.request(service, method, **fields)
        found = self._of(service).method(service, method)
        how = {"timeout": _timeout_s or self._timeout_s, "metadata": _metadata}
        try:
            if found.server_streaming:
                return list(stub(request, **how))
            return stub(request, **how)
        except grpc.RpcError as error:
            return Failed(error.code().name, error.details())

    def predict(self, model: str, _timeout_s: float = 0, /, **inputs: bytes) -> Any:
        """Return what a handler answers, as bytes, or how it Failed."""
        reply = self.call(
            INFERENCE, "Predictions", _timeout_s=_timeout_s, model_name=model, input=inputs
        )
        return reply if isinstance(reply, Failed) else reply.prediction

    def manage(self, method: str, **fields: Any) -> Any:
        """Return the `msg` of a management call, or how it Failed."""
        reply = self.call(MANAGEMENT, method, **fields)
        return reply if isinstance(reply, Failed) else reply.msg
