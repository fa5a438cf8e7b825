"""Tensors of the Open Inference Protocol: as messages, as raw bytes, and as the lists of its JSON.

Datatypes: BOOL, INT8 to INT64, UINT8 to UINT64, FP16 to FP64, BF16, BYTES. Raw bytes are
little-endian and in row-major order; each element of BYTES has its length in front, 4 bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from flambeau_runtime.api.grpc.protos.open_inference_pb2 import InferTensorContents

Elements: TypeAlias = list[Any]
"""bool, int, float, or for BYTES str or bytes; as flat as it lies in memory."""


class BadTensor(ValueError):
    """What is said of a tensor does not fit together; the message says what."""


class Datatype(NamedTuple):
    """How one datatype is written."""

    field: str | None  # of InferTensorContents; None where there is none
    code: str  # of struct; "" where elements differ in length


DATATYPES = {
    "BOOL": Datatype("bool_contents", "?"),
    "INT8": Datatype("int_contents", "b"),
    "INT16": Datatype("int_contents", "h"),
    "INT32": Datatype("int_contents", "i"),
    "INT64": Datatype("int64_contents", "q"),
    "UINT8": Datatype("uint_contents", "B"),
    "UINT16": Datatype("uint_contents", "H"),
    "UINT32": Datatype("uint_contents", "I"),
    "UINT64": Datatype("uint64_contents", "Q"),
    "FP16": Datatype(None, "e"),
    "BF16": Datatype(None, "H"),
    "FP32": Datatype("fp32_contents", "f"),
    "FP64": Datatype("fp64_contents", "d"),
    "BYTES": Datatype("bytes_contents", ""),
}

_LENGTH = struct.Struct("<I")


def only_raw(datatype: str) -> bool:
    """Return whether a datatype has no field of its own, so that it travels as raw bytes only."""
    return datatype in DATATYPES and DATATYPES[datatype].field is None


def from_contents(datatype: str, contents: InferTensorContents) -> Elements | None:
    """Return the elements of a message; None for a datatype that has no field there."""
    known = DATATYPES.get(datatype)
    return None if known is None or known.field is None else list(getattr(contents, known.field))


def to_contents(datatype: str, elements: Elements) -> InferTensorContents:
    """Return elements as a message; an empty one for a datatype that has no field there.

    Raises:
        BadTensor: an element is not of the datatype.
    """
    known = DATATYPES.get(datatype)
    if known is None or known.field is None:
        return InferTensorContents()
    try:
        return InferTensorContents(**{known.field: elements})
    except (TypeError, ValueError) as error:
        raise BadTensor(f"its data is not {datatype}: {error}") from None


def from_raw(datatype: str, shape: Sequence[int], raw: bytes) -> Elements:
    """Return the elements that raw bytes are.

    Raises:
        BadTensor: an unknown datatype, or another number of bytes than the shape needs.
    """
    if datatype not in DATATYPES:
        raise BadTensor(f"{datatype or 'no datatype'} is none of {', '.join(DATATYPES)}")
    count = math.prod(shape)
    if datatype == "BYTES":
        return _checked(list(_split(raw)), count)
    code = DATATYPES[datatype].code
    needed = count * struct.calcsize(f"<{code}")
    if count < 0 or len(raw) != needed:
        raise BadTensor(
            f"shape {list(shape)} of {datatype} needs {max(needed, 0)} bytes, there are {len(raw)}"
        )
    if datatype == "BF16":
        return _widened(raw)
    return list(struct.unpack(f"<{count}{code}", raw))


def to_raw(datatype: str, elements: Elements) -> bytes:
    """Return elements as raw bytes.

    Raises:
        BadTensor: an unknown datatype, or an element that is not of it.
    """
    if datatype not in DATATYPES:
        raise BadTensor(f"{datatype or 'no datatype'} is none of {', '.join(DATATYPES)}")
    try:
        if datatype == "BYTES":
            return b"".join(_LENGTH.pack(len(element)) + element for element in elements)
        if datatype == "BF16":
            return _narrowed(elements)
        return struct.pack(f"<{len(elements)}{DATATYPES[datatype].code}", *elements)
    except (TypeError, struct.error, OverflowError) as error:
        raise BadTensor(f"its data is not {datatype}: {error}") from None


def flat(data: object) -> Elements:
    """Return the elements of data, which JSON may give as nested lists.

    Raises:
        BadTensor: it is no list.
    """
    if not isinstance(data, list):
        raise BadTensor("its data is not a list")
    if not any(isinstance(element, list) for element in data):
        return data
    return list(_leaves(data))


def _leaves(data: Iterable[object]) -> Iterator[object]:
    for element in data:
        if isinstance(element, list):
            yield from _leaves(element)
        else:
            yield element


def mapped(elements: Elements, change: Callable[[Any], Any]) -> Elements:
    """Return the elements, each one changed."""
    return [change(element) for element in elements]


def _checked(elements: Elements, count: int) -> Elements:
    if len(elements) != count:
        raise BadTensor(f"the shape needs {count} elements of BYTES, there are {len(elements)}")
    return elements


def _split(raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        start = at + _LENGTH.size
        if start > len(raw):
            raise BadTensor("its bytes end within the length of an element")
        (size,) = _LENGTH.unpack_from(raw, at)
        at = start + size
        if at > len(raw):
            raise BadTensor("an element of BYTES is longer than what is there")
        yield raw[start:at]


def _widened(raw: bytes) -> Elements:
    """Read BF16: the upper half of a float32."""
    wide = bytearray(2 * len(raw))
    wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
    return list(struct.unpack(f"<{len(raw) // 2}f", wide))


def _narrowed(elements: Elements) -> bytes:
    """Write BF16, rounded to the nearest, ties to even."""
    count = len(elements)
    words = struct.unpack(f"<{count}I", struct.pack(f"<{count}f", *elements))
    return struct.pack(f"<{count}H", *(_upper_half(word) for word in words))


def _upper_half(word: int) -> int:
    if word & 0x7FFFFFFF > 0x7F800000:  # noqa: PLR2004  NaN stays one: rounding would make it infinite
        return word >> 16 | 0x40
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16
