"""Tensors of images: exact ones have the bytes of the guide's code, quick ones are a grey level off at most."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repserve_bench.offline import image_reader
from repserve_bench.offline.errors import BadImageError
from repserve_bench.offline.image_reader import ImageReader
from repserve_server.imaging.preprocessing import Preprocessing
from support.examples import scaled
from support.images import encoded, photo
from support.reference_preprocessing import STD, reference_pixels, reference_tensor

GUIDE = Preprocessing()
FILE = Path("folder/photo.jpg")
EXACT, QUICK = ImageReader(GUIDE, exact=True), ImageReader(GUIDE)
SIZES = [(500, 375), (375, 500), (256, 300), (300, 256), (256, 256), (224, 224), (3, 100), (1999, 1201), (257, 255)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_exact_tensors_have_the_bytes_of_the_guide(size: tuple[int, int], mode: str) -> None:
    data = encoded(photo(*size).convert(mode), "JPEG")
    assert EXACT.prepare(FILE, data).tobytes() == reference_tensor(data).tobytes()


def test_exact_tensors_of_pictures_with_alpha_and_palette() -> None:
    for mode in ("RGBA", "LA", "P", "1"):
        data = encoded(photo(300, 280).convert(mode), "PNG")
        assert EXACT.prepare(FILE, data).tobytes() == reference_tensor(data).tobytes()


@settings(max_examples=scaled(40))
@given(st.integers(1, 600), st.integers(1, 600), st.sampled_from([(256, 224), (232, 224), (32, 31)]))
def test_exact_pixels_of_any_size(width: int, height: int, sizes: tuple[int, int]) -> None:
    # The guide scales the whole picture: beyond this ratio it would need too much memory for a test.
    width, height = max(width, height // 40), max(height, width // 40)
    data = encoded(photo(width, height), "PNG")
    reader = ImageReader(Preprocessing(resize=sizes[0], crop=sizes[1]), "uint8", exact=True)
    assert (reader.prepare(FILE, data) == reference_pixels(data, *sizes)).all()


@pytest.mark.parametrize("size", SIZES)
def test_quick_tensors_are_one_grey_level_off_at_most(size: tuple[int, int]) -> None:
    data = encoded(photo(*size), "JPEG")
    values, reference = QUICK.prepare(FILE, data), reference_tensor(data)
    assert values.dtype == np.float32
    assert values.shape == (3, 224, 224)
    levels = np.abs(values.view(np.float32) - reference) * 255 * np.array(STD, np.float32)[:, None, None]
    assert levels.max() < 1.001
    assert (levels < 0.001).mean() > 0.9


@pytest.mark.parametrize("exact", [True, False])
def test_a_model_that_normalises_itself_gets_pixels(exact: bool) -> None:
    data = encoded(photo(256, 256), "PNG")
    pixels = ImageReader(GUIDE, "uint8", exact=exact).prepare(FILE, data)
    assert pixels.dtype == np.uint8
    assert (pixels == reference_pixels(data)).all()


@pytest.mark.parametrize("reader", [EXACT, QUICK])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the image is empty"),
        (encoded(photo(300, 300), "JPEG")[:3000], "the JPEG image cannot be decoded"),
        (encoded(photo(30, 30), "GIF"), "GIF images are not accepted"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(reader: ImageReader, data: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=rf"folder/photo\.jpg: {reason}"):
        reader.prepare(FILE, data)


def test_a_file_that_cannot_be_read_is_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"absent\.jpg: cannot be read: No such file"):
        QUICK.read(tmp_path / "absent.jpg")


def test_a_picture_that_would_be_scaled_to_gigabytes_is_refused_by_exact_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_reader, "MAX_PIXELS", 100_000)
    data = encoded(Image.new("RGB", (2000, 2)), "PNG")
    with pytest.raises(BadImageError, match=r"2000 x 2 pixels would be scaled to 256000 x 256.*leave out --exact"):
        EXACT.prepare(FILE, data)
    assert QUICK.prepare(FILE, data).shape == (3, 224, 224)


@pytest.mark.skipif("REPSERVE_REAL_DATA" not in os.environ, reason="REPSERVE_REAL_DATA is not set")
def test_exact_tensors_of_photos() -> None:
    files = sorted((Path(os.environ["REPSERVE_REAL_DATA"]) / "imagenet_val20").iterdir())
    assert len(files) == 20
    for file in files:
        assert EXACT.read(file).tobytes() == reference_tensor(file.read_bytes()).tobytes()
