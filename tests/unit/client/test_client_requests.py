from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repserve_client.errors import InvalidArgumentError
from repserve_client.requests import MAX_MESSAGE_BYTES, RequestBuilder
from repserve_protos.v1 import classification_pb2 as pb


def test_bytes_are_sent_as_they_are_with_all_options() -> None:
    request = RequestBuilder("a0", "3", 2).build(b"\xff\xd8jpeg")
    assert request.encoded_image == b"\xff\xd8jpeg"
    assert (request.model, request.version, request.top_k) == ("a0", "3", 2)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read(tmp_path: Path, kind: type[str] | type[Path]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"picture")
    assert RequestBuilder().build(kind(tmp_path / "photo.jpg")).encoded_image == b"picture"


@pytest.mark.parametrize(("shape", "count"), [((4, 4, 3), 1), ((1, 4, 4, 3), 1), ((5, 4, 4, 3), 5)])
def test_pixels_are_sent_row_by_row_with_their_count(shape: tuple[int, ...], count: int) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    request = RequestBuilder().build(pixels)
    assert request.pixels.count == count
    assert request.pixels.data == pixels.tobytes()


def test_a_view_with_other_strides_is_sent_in_its_own_order() -> None:
    pixels = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)[:, ::-1]
    sent = np.frombuffer(RequestBuilder().build(pixels).pixels.data, np.uint8).reshape(4, 4, 3)
    assert (sent == pixels).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "is empty"),
        (bytes(MAX_MESSAGE_BYTES), "at most"),
        (np.zeros((4, 4, 3), np.float32), "dtype float32; expected uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"shape \[3, 4, 4\]; expected \[crop, crop, 3\]"),
        (np.zeros((2, 3, 4, 4), np.uint8), "channels last"),
        (np.zeros((4, 5, 3), np.uint8), r"shape \[4, 5, 3\]"),
        (np.zeros((4, 4), np.uint8), r"shape \[4, 4\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), "at least one image"),
        (7, "cannot classify a int; expected bytes, a path"),
    ],
)
def test_requests_that_the_server_would_refuse_are_refused_here(image: object, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        RequestBuilder().build(image)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"none\.jpg: No such file or directory"):
        RequestBuilder().build(tmp_path / "none.jpg")
    with pytest.raises(InvalidArgumentError, match="Is a directory"):
        RequestBuilder().build(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(InvalidArgumentError, match=r"empty\.jpg is empty"):
        RequestBuilder().build(tmp_path / "empty.jpg")


def test_an_urgent_request_says_so() -> None:
    assert RequestBuilder(urgent=True).build(b"image").priority == pb.PRIORITY_HIGH
    assert RequestBuilder().build(b"image").priority == pb.PRIORITY_NORMAL


@pytest.mark.parametrize("top_k", [0, -1, True, 2**32])
def test_a_number_of_classes_that_cannot_be_is_refused(top_k: int) -> None:
    with pytest.raises(InvalidArgumentError, match="top_k"):
        RequestBuilder(top_k=top_k)
