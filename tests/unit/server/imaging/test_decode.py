"""Every accepted kind of file comes out as the guide's Pillow code would have it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.preprocessing import Preprocessing
from support.examples import scaled
from support.images import GUIDE, encoded, equal_share, photo, preprocessed

EQUAL_ON_AVERAGE = 0.97
RGB = photo(500, 375)
RGBA = Image.merge("RGBA", (*RGB.split(), photo(500, 375, seed=1).convert("L")))
PALETTE = RGB.convert("P", palette=Image.Palette.ADAPTIVE)
SIXTEEN_BITS = Image.fromarray((np.asarray(RGB.convert("L")).astype(np.uint16) * 257)[:, ::-1].copy())
ROTATED = Image.Exif()
ROTATED[0x0112] = 6

FILES = {
    "jpeg": encoded(RGB, "JPEG"),
    "jpeg 4:4:4": encoded(RGB, "JPEG", subsampling=0),
    "jpeg 4:2:2": encoded(RGB, "JPEG", subsampling=1),
    "jpeg 4:2:0": encoded(RGB, "JPEG", subsampling=2),
    "jpeg progressive": encoded(RGB, "JPEG", progressive=True),
    "jpeg restart markers": encoded(RGB, "JPEG", restart_marker_rows=1),
    "jpeg grey": encoded(RGB.convert("L"), "JPEG"),
    "jpeg grey progressive": encoded(RGB.convert("L"), "JPEG", progressive=True),
    "jpeg CMYK": encoded(RGB.convert("CMYK"), "JPEG"),
    "jpeg RGB, Adobe marker": encoded(RGB, "JPEG", keep_rgb=True),
    "jpeg EXIF-rotated": encoded(RGB, "JPEG", exif=ROTATED),
    "jpeg, bytes after the end": encoded(RGB, "JPEG") + b"trailing bytes",
    "mpo": encoded(RGB, "MPO", save_all=True, append_images=[photo(500, 375, seed=2)]),
    "png": encoded(RGB, "PNG"),
    "png grey": encoded(RGB.convert("L"), "PNG"),
    "png grey and alpha": encoded(RGBA.convert("LA"), "PNG"),
    "png alpha": encoded(RGBA, "PNG"),
    "png transparent colour": encoded(RGB, "PNG", transparency=(128, 128, 128)),
    "png palette": encoded(PALETTE, "PNG"),
    "png palette, one transparent": encoded(PALETTE, "PNG", transparency=3),
    "png palette, alpha table": encoded(PALETTE, "PNG", transparency=bytes(range(256))),
    "png 1 bit": encoded(RGB.convert("1"), "PNG"),
    "png 16-bit grey": encoded(SIXTEEN_BITS, "PNG"),
    "webp lossy": encoded(RGB, "WEBP", quality=80),
    "webp lossless": encoded(RGB, "WEBP", lossless=True),
    "webp alpha": encoded(RGBA, "WEBP", lossless=True),
    "bmp": encoded(RGB, "BMP"),
    "bmp grey": encoded(RGB.convert("L"), "BMP"),
    "bmp palette": encoded(PALETTE, "BMP"),
    "bmp 1 bit": encoded(RGB.convert("1"), "BMP"),
}

SIZES = [
    (1, 1), (3, 500), (500, 3), (256, 256), (256, 400), (400, 256), (224, 224), (255, 257), (257, 256),
    (512, 512), (500, 426), (333, 500), (300, 900), (700, 2000), (2000, 20), (20, 2000), (1999, 1201),
    (64, 48), (150, 1024),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file(kind: str) -> None:
    assert equal_share(preprocessed(FILES[kind]), FILES[kind]) >= EQUAL_ON_AVERAGE


def test_exif_orientation_is_ignored() -> None:
    assert (preprocessed(FILES["jpeg EXIF-rotated"]) == preprocessed(FILES["jpeg"])).all()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_size(width: int, height: int, mode: str) -> None:
    for data in (
        encoded(photo(width, height).convert(mode), "PNG"),
        encoded(photo(width, height).convert(mode), "JPEG"),
    ):
        # Where the ratio of the sizes is a small fraction, many values lie halfway between two grey levels.
        assert equal_share(preprocessed(data), data) >= 0.9


def test_sizes_equal_on_average() -> None:
    shares = []
    for width, height in SIZES:
        data = encoded(photo(width, height), "PNG")
        shares.append(equal_share(preprocessed(data), data))
    assert np.mean(shares) >= EQUAL_ON_AVERAGE


@pytest.mark.parametrize(("width", "height"), [(256, 300), (300, 256), (256, 256)])
def test_a_shorter_side_of_the_right_length_is_only_cropped(width: int, height: int) -> None:
    image = photo(width, height)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    assert (preprocessed(encoded(image, "PNG")) == np.asarray(image)[top : top + 224, left : left + 224]).all()


@pytest.mark.parametrize("size", [(10_000, 1), (1, 10_000), (60_000, 2)])
def test_an_extreme_aspect_ratio_scales_only_what_the_crop_needs(size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    middle = tuple(slice(n // 2 - 5, n // 2 + 5) if n > 10 else slice(None) for n in reversed(size))
    pixels[middle] = (10, 20, 30)
    # The guide's code would scale these to 2.6 or 7.7 million x 256 pixels. The crop lies within the colour.
    assert (preprocessed(encoded(Image.fromarray(pixels), "PNG")) == (10, 20, 30)).all()


@pytest.mark.parametrize(("resize", "crop"), [(256, 256), (232, 224), (32, 28), (480, 448), (1, 1)])
def test_other_sizes_of_input(resize: int, crop: int) -> None:
    preprocessing = Preprocessing(resize=resize, crop=crop)
    for data in (FILES["jpeg"], FILES["jpeg grey"], FILES["png alpha"]):
        assert equal_share(preprocessed(data, preprocessing), data, preprocessing) >= 0.9


@settings(max_examples=scaled(60))
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    mode=st.sampled_from(["RGB", "L"]),
    file_format=st.sampled_from(["PNG", "JPEG"]),
)
def test_random_sizes(width: int, height: int, mode: str, file_format: str) -> None:
    # The reference scales the whole picture: beyond this ratio it would need too much memory for a test.
    width, height = max(width, height // 40), max(height, width // 40)
    data = encoded(photo(width, height, seed=width * 701 + height).convert(mode), file_format)
    equal_share(preprocessed(data), data)


def test_writes_into_a_view() -> None:
    slots = np.zeros((3, *GUIDE.shape), np.uint8)
    preprocess_into(FILES["jpeg"], GUIDE, slots[1])
    assert (slots[1] == preprocessed(FILES["jpeg"])).all()
    assert not slots[[0, 2]].any()


def test_out_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(224, 224, 3\)"):
        preprocess_into(FILES["jpeg"], GUIDE, np.zeros((3, 224, 224), np.uint8))


def test_many_threads() -> None:
    kinds = ["jpeg", "jpeg progressive", "jpeg CMYK", "png alpha", "webp lossy", "bmp"] * 6
    alone = {kind: preprocessed(FILES[kind]) for kind in set(kinds)}
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda kind: preprocessed(FILES[kind]), kinds, timeout=60)
        assert all((pixels == alone[kind]).all() for kind, pixels in zip(kinds, results, strict=True))


@pytest.mark.skipif("REPSERVE_REAL_DATA" not in os.environ, reason="REPSERVE_REAL_DATA is not set")
def test_photos() -> None:
    root = Path(os.environ["REPSERVE_REAL_DATA"])
    files = [path for name in ("imagenet_val20", "imagenet_train200") for path in (root / name).iterdir()]
    assert len(files) >= 220
    shares = [equal_share(preprocessed(data), data) for data in map(Path.read_bytes, files)]
    assert np.mean(shares) >= EQUAL_ON_AVERAGE
