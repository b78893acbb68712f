"""From an encoded image to the pixels that a model takes: decode, scale the shorter side, cut out the centre.

The result is that of the offline guide's Pillow code to within one grey level, and the same in nearly every
pixel. The guide scales the whole picture and crops it then. Here only the region under the crop is scaled, in
three channels only where there is colour. That costs less, and keeps a picture of 10000 x 1 pixels from
growing to gigabytes. EXIF orientation is ignored, as in the guide.

Pillow decodes JPEGs too. OpenCV's decoder gives the same pixels a few hundredths of a millisecond sooner, but
accepts some damaged files that the guide's code refuses, and prints to stderr about others.
"""

from __future__ import annotations

from math import ceil, floor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from repserve_server.imaging.image_format import corrupt, open_image
from repserve_server.imaging.preprocessing import Preprocessing

Box = tuple[float, float, float, float]


class _Span(NamedTuple):
    """The part of one source axis under the crop, and the whole pixels that the filter reads for it."""

    start: float
    end: float
    first: int
    last: int


def preprocess_into(
    data: bytes, preprocessing: Preprocessing, out: NDArray[np.uint8], *, max_pixels: int = 100_000_000
) -> None:
    """Decode an image, scale its shorter side to ``resize`` and write the centre ``crop`` by ``crop`` pixels.

    May be called from many threads at once; Pillow releases the interpreter lock while it decodes and scales.

    Args:
        data: the whole encoded file: JPEG, PNG, WebP or BMP.
        preprocessing: sizes of the scaled shorter side and of the crop.
        out: uint8 [crop, crop, 3], receives the pixels in RGB order; untouched when an error is raised.
        max_pixels: largest width times height that is decoded.

    Raises:
        ImageError: the image cannot be decoded or is not accepted; its ``kind`` and message say why.
        ValueError: ``out`` has the wrong shape or type.
    """
    if out.shape != preprocessing.shape or out.dtype != np.uint8:
        raise ValueError(f"out is {out.dtype} {out.shape}, expected uint8 {preprocessing.shape}")
    image = _load(data, max_pixels)
    cropped = _scale_and_crop(image, preprocessing.resize, preprocessing.crop)
    if cropped.mode != "RGB":
        cropped = cropped.convert("RGB")
    out[...] = np.frombuffer(cropped.tobytes(), np.uint8).reshape(preprocessing.shape)


def _load(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a picture into mode RGB, or into mode L where all three channels would be equal."""
    name, image = open_image(data, max_pixels)
    if name == "JPEG":
        # One block instead of 64 KiB at a time, which Pillow would splice together again.
        image.decodermaxblock = len(data)  # type: ignore[attr-defined]
    try:
        image.load()
        return image if image.mode in {"RGB", "L"} else image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's readers raise many kinds of exception on damaged files; all of them are the file's fault.
        raise corrupt(name, error) from error


def _scale_and_crop(image: Image.Image, resize: int, crop: int) -> Image.Image:
    """Cut out the centre of the picture, as the guide's resize and crop do."""
    width, height = image.size
    shorter = min(width, height)
    scaled_width = resize if width == shorter else int(resize * width / height)
    scaled_height = resize if height == shorter else int(resize * height / width)
    left = round((scaled_width - crop) / 2.0)
    top = round((scaled_height - crop) / 2.0)
    if shorter == resize:
        return image.crop((left, top, left + crop, top + crop))

    x = _source_span(left, crop, width, scaled_width)
    y = _source_span(top, crop, height, scaled_height)
    # Each pass rounds to whole grey levels, so their order matters. Pillow 13 scales the height first when it
    # shrinks by more than twice as many pixels as the width. The guide's code has it decide for the whole picture
    # scaled to its whole size; one call for the crop alone decides by the crop's size. (Earlier versions always
    # begin with the width.)
    vertical_first = height - scaled_height > max(0, 2 * (width - scaled_width))
    if vertical_first == (height - crop > max(0, 2 * (width - crop))):
        return image.resize((crop, crop), Image.Resampling.BILINEAR, (x.start, y.start, x.end, y.end))
    region = image.crop((x.first, y.first, x.last, y.last))
    if vertical_first:
        return _scale_width(_scale_height(region, y, crop), x, crop)
    return _scale_height(_scale_width(region, x, crop), y, crop)


def _source_span(offset: int, crop: int, size: int, scaled_size: int) -> _Span:
    start = offset * size / scaled_size
    end = (offset + crop) * size / scaled_size
    # The triangle filter reaches one scaled pixel to each side, and at least one source pixel.
    support = max(size / scaled_size, 1.0)
    return _Span(start, end, max(0, floor(start - support)), min(size, ceil(end + support)))


def _scale_width(region: Image.Image, span: _Span, crop: int) -> Image.Image:
    box: Box = (span.start - span.first, 0, span.end - span.first, region.height)
    return region.resize((crop, region.height), Image.Resampling.BILINEAR, box)


def _scale_height(region: Image.Image, span: _Span, crop: int) -> Image.Image:
    box: Box = (0, span.start - span.first, region.width, span.end - span.first)
    return region.resize((region.width, crop), Image.Resampling.BILINEAR, box)
