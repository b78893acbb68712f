"""What is written into a slot: pixels, or what the guide's code makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from repserve_server.errors import ImageError
from repserve_server.imaging.model_input import as_model_input, write_encoded
from repserve_server.imaging.normalise import normalise
from support.images import GUIDE, encoded, photo
from support.reference_preprocessing import reference_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXELS = 1_000_000


def test_a_float32_slot_gets_the_guides_tensor() -> None:
    data = encoded(photo(300, 256, 1), "PNG")
    out = np.empty((3, 224, 224), np.float32)
    write_encoded(data, GUIDE, out, max_pixels=PIXELS)
    np.testing.assert_allclose(out, reference_tensor(data), rtol=1e-6)


def test_a_uint8_slot_gets_the_pixels_that_the_float32_slot_normalises() -> None:
    data = encoded(photo(310, 290, 2), "JPEG")
    pixels, tensor = np.empty((224, 224, 3), np.uint8), np.empty((3, 224, 224), np.float32)
    write_encoded(data, GUIDE, pixels, max_pixels=PIXELS)
    write_encoded(data, GUIDE, tensor, max_pixels=PIXELS)
    assert (tensor == normalise(pixels[np.newaxis], GUIDE)[0]).all()


@pytest.mark.parametrize(("dtype", "shape"), [("uint8", (224, 224, 3)), ("float32", (3, 224, 224))])
def test_a_refused_image_leaves_the_slot_as_it_was(dtype: str, shape: tuple[int, ...]) -> None:
    out = np.full(shape, 7, dtype)
    with pytest.raises(ImageError):
        write_encoded(b"no image", GUIDE, out, max_pixels=PIXELS)
    assert (out == 7).all()


def test_cropped_pixels_are_taken_as_they_are_or_normalised() -> None:
    pixels: NDArray[np.uint8] = np.stack([np.asarray(photo(224, 224, seed)) for seed in range(2)])
    assert as_model_input(pixels, GUIDE, np.dtype(np.uint8)) is pixels
    assert (as_model_input(pixels, GUIDE, np.dtype(np.float32)) == normalise(pixels, GUIDE)).all()
