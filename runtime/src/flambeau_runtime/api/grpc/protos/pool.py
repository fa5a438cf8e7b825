"""The descriptors of our messages, in a pool of their own, and the classes made from them.

Modules that protoc writes need the protobuf of their own time, and put their names where every
library of the process puts its own: a handler's environment, or a client's stubs of TorchServe in
the same process, would clash with them. What is made from descriptors at run time does neither.
"""

from __future__ import annotations

from google.protobuf import any_pb2, descriptor_pool, empty_pb2, message_factory


def _with_googles() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in (any_pb2, empty_pb2):
        pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
    return pool


POOL = _with_googles()


def add(name: str, serialized: bytes) -> dict[str, object]:
    """Take in a file, after those that it imports; return what a module of it has.

    That is its messages' classes by name, and the file's own descriptor as DESCRIPTOR.
    """
    POOL.AddSerializedFile(serialized)
    file = POOL.FindFileByName(name)
    messages = file.message_types_by_name
    classes = {name: message_factory.GetMessageClass(found) for name, found in messages.items()}
    return {"DESCRIPTOR": file, **classes}
