"""BYTES tensors: each element is its length, four bytes little-endian, and then its bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from repserve_server.errors import InvalidRequestError

if TYPE_CHECKING:
    from repserve_server.dataplane.dataplane import Buffer

_LENGTH = struct.Struct("<I")
BufferT = TypeVar("BufferT", bytes, "Buffer")


def split_elements(name: str, data: Buffer, count: int) -> list[bytes]:
    """Split raw content into its elements.

    Args:
        name: the tensor's, for messages.
        data: the raw content.
        count: how many elements its shape has.

    Raises:
        InvalidRequestError: the content is not exactly that many elements.
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
                f"element {len(elements)} of input {name!r} is cut off; expected its length, 4 bytes little-endian, "
                "and then that many bytes"
            )
        elements.append(view[start : start + length].tobytes())
        place = start + length
    if len(elements) < count:
        raise InvalidRequestError(f"input {name!r} has {len(elements)} elements, but its shape has {count}")
    return elements


def join_elements(elements: Iterable[bytes]) -> bytes:
    """Join elements into raw content."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))


def raw_content(data: BufferT | list[bytes]) -> BufferT | bytes:
    """Return a tensor's raw content, joined where its elements are apart."""
    return join_elements(data) if isinstance(data, list) else data
