"""The golden check: a model whose results are not the recorded ones is not served, and the log has the reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from repserve_server.backends.base import BackendError
from repserve_server.errors import RepServeError
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.golden import find_golden, read_golden
from repserve_server.worker.golden import check_golden
from support.fakes import FakeBackend

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL = Preprocessing(resize=2, crop=2)


class Brightness(FakeBackend):
    """Class 0 for dark images, 1 for bright ones, with logits 0 and 4."""

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        self.batches.append(batch)
        bright = batch.reshape(len(batch), -1).mean(axis=1) > 100
        return np.where(bright[:, None], [[0, 4, 0, 0]], [[4, 0, 0, 0]]).astype(np.float32)


BEST = float(np.exp(4) / (np.exp(4) + 3))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with a dark and a bright image."""
    (tmp_path / "1").mkdir()
    (tmp_path / "golden").mkdir()
    for name, grey in (("dark", 10), ("bright", 200)):
        Image.new("RGB", (2, 2), (grey, grey, grey)).save(tmp_path / "golden" / f"{name}.png")
    return tmp_path


def write(model: Path, text: str) -> Path:
    path = model / "golden" / "golden.toml"
    path.write_text(text, encoding="utf-8")
    return path


def image(name: str, index: int, score: float | None = None) -> str:
    probability = "" if score is None else f"score = {score}\n"
    return f'[[image]]\nfile = "{name}.png"\nclass = {index}\n{probability}'


def test_images_are_compared_in_batches_of_every_size(model: Path) -> None:
    path = write(model, image("dark", 0, round(BEST, 3)) + image("bright", 1))
    backend = Brightness((1, 4))
    result = check_golden(path, backend, SMALL, "logits")
    assert (result.images, result.labelled, result.accuracy) == (2, 0, None)
    assert result.largest_difference < 0.001
    assert [len(batch) for batch in backend.batches] == [1, 1, 4]


def test_another_class_is_named_with_both_scores(model: Path) -> None:
    path = write(model, image("dark", 1))
    with pytest.raises(
        BackendError, match=r"dark\.png in a batch of 1 gets class 0 'night' with 0\.948, expected 1 'day'"
    ):
        check_golden(path, Brightness(), SMALL, "logits", labels=("night", "day"))


def test_a_score_that_differs_by_more_than_the_tolerance_is_refused(model: Path) -> None:
    path = write(model, "tolerance = 0.1\n" + image("dark", 0, BEST - 0.09))
    assert check_golden(path, Brightness(), SMALL, "logits").largest_difference == pytest.approx(0.09)
    path = write(model, "tolerance = 0.08\n" + image("dark", 0, BEST - 0.09))
    with pytest.raises(BackendError, match=r"expected 0\.858 within 0\.08"):
        check_golden(path, Brightness(), SMALL, "logits")


def test_probabilities_are_taken_as_they_are(model: Path) -> None:
    path = write(model, image("dark", 0, 1.0))
    with pytest.raises(BackendError, match=r"with 4\.000, expected 1\.000"):
        check_golden(path, Brightness(), SMALL, "probabilities")


def test_a_labelled_set_must_reach_its_accuracy(model: Path) -> None:
    (model / "golden" / "val_label.txt").write_text("dark.png 0\nbright.png 1\ndark.png 1\n", encoding="utf-8")
    path = write(model, 'labels = "val_label.txt"\naccuracy = 0.6\n')
    result = check_golden(path, Brightness((1, 2)), SMALL, "logits")
    assert result.labelled == 3
    assert result.accuracy == pytest.approx(2 / 3)
    path = write(model, 'labels = "val_label.txt"\naccuracy = 0.7\n')
    with pytest.raises(BackendError, match=r"2 of 3 labelled images are correct.*0\.6667; expected at least 0\.7"):
        check_golden(path, Brightness(), SMALL, "logits")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tolerance =", "is not valid TOML"),
        ("tolerance = 2", "key 'tolerance'"),
        ("tolerence = 0.1", "key 'tolerence' is not known, did you mean 'tolerance'"),
        ('[[image]]\nfile = "a.png"\n', "key 'image.0.class'"),
        ('[[image]]\nfile = "a.png"\nclas = 1\n', "key 'image.0.clas' is not known, did you mean 'class'"),
        (image("dark", 9), "has class 9, but the model has only 4 classes"),
        (image("nothing", 0), "cannot be read"),
        ('[[image]]\nfile = "../../elsewhere.png"\nclass = 0\n', "is outside of"),
        ('labels = "nothing.txt"', "is not a list of labels"),
    ],
)
def test_a_file_that_is_wrong_is_told_what_is_wrong(model: Path, text: str, words: str) -> None:
    path = write(model, text)
    with pytest.raises(RepServeError) as caught:
        check_golden(path, Brightness(), SMALL, "logits")
    assert words in str(caught.value)


def test_a_versions_own_file_comes_before_the_models(model: Path) -> None:
    version = model / "1"
    assert find_golden(version) is None
    common = write(model, image("dark", 0))
    assert find_golden(version) == common
    (version / "golden").mkdir()
    own = version / "golden" / "golden.toml"
    own.write_text("", encoding="utf-8")
    assert find_golden(version) == own
    assert read_golden(own).image == ()
