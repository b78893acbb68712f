"""BYTES tensors: each element is its length, four bytes little-endian, and then its bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from repserve_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from repserve_server.protocols.kserve.tensors import Buffer

_LENGTH = struct.Struct("<I")


def split_elements(name: str, data: Buffer, count: int) -> list[bytes]:
    """The elements of a tensor.

    Args:
        name: the tensor's, for messages.
        data: the raw content.
        count: how many elements its shape holds.

    Raises:
        InvalidRequestError: the content is not so many elements, whole, and nothing else.
    """
    view = memoryview(data).cast("B")
    elements: list[bytes] = []
    place = 0
    while place < len(view):
        if len(elements) == count:
            raise InvalidRequestError(
                f"input {name!r} has {len(view) - place} bytes after its {count} elements; its shape must count all"
            )
        start = place + _LENGTH.size
        length = _LENGTH.unpack_from(view, place)[0] if start <= len(view) else 0
        if start + length > len(view):
            raise InvalidRequestError(
                f"element {len(elements)} of input {name!r} is cut off: each is its length in 4 bytes, little-endian, "
                "and then that many bytes"
            )
        elements.append(view[start : start + length].tobytes())
        place = start + length
    if len(elements) < count:
        raise InvalidRequestError(f"input {name!r} has {len(elements)} elements and its shape {count}")
    return elements


def join_elements(elements: Iterable[bytes]) -> bytes:
    """The raw content of a tensor with these elements."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))
