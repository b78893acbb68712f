"""BYTES tensors: elements come out as they went in, and malformed content is refused with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.errors import InvalidRequestError
from repserve_server.protocols.kserve.bytes_tensor import join_elements, split_elements


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_elements_come_out_as_they_went_in(elements: list[bytes]) -> None:
    assert split_elements("IMAGE", join_elements(elements), len(elements)) == elements


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        (b"", 1, "has 0 elements, but its shape has 1"),
        (b"\x01", 1, "element 0 of input 'IMAGE' is cut off"),
        (b"\x03\x00\x00\x00ab", 1, "element 0 of input 'IMAGE' is cut off"),
        (b"\xff\xff\xff\xffab", 1, "element 0 of input 'IMAGE' is cut off"),
        (join_elements([b"a", b"b"]), 1, "has 5 bytes after its 1 elements"),
        (join_elements([b"a", b"b"]) + b"\x00", 2, "has 1 bytes after its 2 elements"),
        (join_elements([b"a"]), 2, "has 1 elements, but its shape has 2"),
    ],
)
def test_content_that_is_not_so_many_elements_is_refused(data: bytes, count: int, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        split_elements("IMAGE", data, count)


@given(st.binary(max_size=64), st.integers(0, 4))
def test_any_content_is_taken_or_refused(data: bytes, count: int) -> None:
    try:
        elements = split_elements("IMAGE", data, count)
    except InvalidRequestError:
        return
    assert join_elements(elements) == data
