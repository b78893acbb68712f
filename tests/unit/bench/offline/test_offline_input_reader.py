from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from repserve_bench.offline.errors import BadImageError, OfflineError
from repserve_bench.offline.image_reader import ImageReader
from repserve_bench.offline.input_reader import InputReader
from repserve_server.backends.base import image_specs
from repserve_server.imaging.preprocessing import Preprocessing
from support.fakes import FakeClock
from support.images import encoded, photo

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Preprocessing(resize=10, crop=8)
TENSOR, PIXELS = image_specs("image", SMALL)


def reader(*, pixels: bool = False) -> InputReader:
    spec = PIXELS if pixels else TENSOR
    return InputReader(spec, ImageReader(SMALL, spec.dtype), FakeClock(5.0))


def test_a_tensor_is_taken_as_it_is(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=TENSOR.shape).astype("<f4")
    (tmp_path / "a.bin").write_bytes(values.tobytes())
    taken = reader()(tmp_path / "a.bin")
    assert (taken.values == values).all()
    assert (taken.read, taken.preprocess) == ((5.0, 5.0), (5.0, 5.0))


@pytest.mark.parametrize("pixels", [True, False])
def test_an_image_becomes_the_models_input(tmp_path: Path, pixels: bool) -> None:
    data = encoded(photo(20, 30), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    spec = PIXELS if pixels else TENSOR
    values = reader(pixels=pixels)(tmp_path / "a.jpg").values
    assert values.dtype == spec.dtype
    assert values.shape == spec.shape
    assert (values == ImageReader(SMALL, spec.dtype).prepare(tmp_path, data)).all()


def test_pixels_in_a_file_are_taken_by_a_model_that_normalises_itself(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(192)))
    assert reader(pixels=True)(tmp_path / "a.bin").values.tobytes() == bytes(range(192))


def test_float32_is_refused_by_a_model_that_normalises_itself(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x00" * 768)
    with pytest.raises(OfflineError, match=r"a\.bin holds float32.*'repserve bench offline all', or .* type jpg"):
        reader(pixels=True)(tmp_path / "a.bin")


def test_a_tensor_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x00" * 12)
    with pytest.raises(OfflineError, match=r"a\.bin has 12 bytes, and the model takes float32 \[3, 8, 8\], 768 bytes"):
        reader()(tmp_path / "a.bin")


def test_a_tensor_that_is_not_there_ends_the_run_and_an_image_does_not(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"cannot read .*a\.bin: No such file") as caught:
        reader()(tmp_path / "a.bin")
    assert not isinstance(caught.value, BadImageError)
    with pytest.raises(BadImageError, match=r"a\.jpg: cannot be read"):
        reader()(tmp_path / "a.jpg")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"a\.npy: expected a tensor \(\.bin\) or an image"):
        reader()(tmp_path / "a.npy")
