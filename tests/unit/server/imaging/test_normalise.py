"""The normalised tensor is the one that the guide writes to its .bin files."""

from __future__ import annotations

import numpy as np
import pytest

from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing
from support.images import GUIDE, encoded, photo
from support.reference_preprocessing import reference_pixels, reference_tensor


@pytest.mark.parametrize("count", [1, 3])
def test_equals_the_reference(count: int) -> None:
    files = [encoded(photo(300, 280, seed), "PNG") for seed in range(count)]
    images = np.stack([reference_pixels(data) for data in files])
    untouched = images.copy()
    tensor = normalise(images, GUIDE)
    assert tensor.shape == (count, 3, 224, 224)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor, np.stack([reference_tensor(data) for data in files]), rtol=1e-6)
    assert (images == untouched).all()


def test_every_grey_level_and_other_constants() -> None:
    preprocessing = Preprocessing(resize=16, crop=16, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    images = np.stack([levels, levels, levels], axis=-1)[None]
    exact = levels[None].astype(np.float64) / 255
    expected = (exact - np.array([0.5, 0.25, 0.0])[:, None, None]) / np.array([0.5, 1.0, 2.0])[:, None, None]
    np.testing.assert_allclose(normalise(images, preprocessing)[0], expected, rtol=1e-6, atol=1e-7)


def test_no_images() -> None:
    assert normalise(np.zeros((0, 224, 224, 3), np.uint8), GUIDE).shape == (0, 3, 224, 224)
