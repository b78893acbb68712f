from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from repserve_bench import payloads as payloads_module
from repserve_bench.dataset import Sample
from repserve_bench.payloads import Content, InputSettings, PayloadError, Payloads, classify_request
from repserve_protos.v1 import classification_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make(groups: Sequence[tuple[Sample, ...]], settings: InputSettings) -> Payloads:
    def serialise(_index: int, content: Content) -> bytes:
        return classify_request(content, settings).SerializeToString()

    return Payloads(groups, settings, serialise)


def photo(path: Path, shade: int) -> Sample:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 280), (shade, shade, shade)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return Sample(path)


def test_encoded_requests_carry_the_file_as_it_is(tmp_path: Path) -> None:
    sample = photo(tmp_path / "a.png", 10)
    payloads = make([(sample,)], InputSettings(model="m", version="2", top_k=5))
    payloads.prepare()
    assert payloads.kept
    request = pb.ClassifyRequest.FromString(payloads[0])
    assert (request.model, request.version, request.top_k) == ("m", "2", 5)
    assert request.encoded_image == sample.path.read_bytes()


def test_pixel_requests_carry_a_batch_of_crops(tmp_path: Path) -> None:
    group = (photo(tmp_path / "a.png", 10), photo(tmp_path / "b.png", 200))
    payloads = make([group], InputSettings(pixels=True, images_per_request=2))
    payloads.prepare()
    request = pb.ClassifyRequest.FromString(payloads[0])
    assert request.pixels.count == 2
    pixels = np.frombuffer(request.pixels.data, np.uint8).reshape(2, 224, 224, 3)
    assert np.all(pixels[0] == 10)
    assert np.all(pixels[1] == 200)


def test_requests_that_do_not_fit_in_memory_are_made_when_they_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = photo(tmp_path / "a.png", 10)
    monkeypatch.setattr(payloads_module, "MEMORY_LIMIT", 10)
    payloads = make([(sample,)], InputSettings())
    payloads.prepare()
    assert not payloads.kept
    assert pb.ClassifyRequest.FromString(payloads[0]).encoded_image == sample.path.read_bytes()


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(b"not an image")
    payloads = make([(Sample(file),)], InputSettings(pixels=True))
    with pytest.raises(PayloadError, match=r"broken\.jpg"):
        payloads.prepare()
