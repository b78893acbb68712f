"""The golden check: before a model is served, stored images must get the classes that they are known to get.

A model's folder, or a version's, may hold ``golden/golden.toml``; the version's comes first:

    tolerance = 0.05            # largest difference of a probability
    accuracy = 0.8              # optional: least top-1 of the labelled images
    labels = "val_label.txt"    # their classes: a line each, "file index"

    [[image]]
    file = "photo.jpg"          # beside golden.toml, or elsewhere in the model's folder
    class = 281                 # the index that must rank first
    score = 0.93                # optional: its probability
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repserve_server.backends.base import Backend, BackendError
from repserve_server.imaging.model_input import write_encoded
from repserve_server.imaging.preprocessing import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER, FILE = "golden", "golden.toml"
MOST_IMAGES = 64
MOST_LABELLED = 2_000
_MOST_PIXELS = 100_000_000


class GoldenImage(BaseModel):
    """An image, the class that it must get, and the probability of that class, if it matters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    index: int = Field(alias="class", ge=0)
    score: float | None = Field(default=None, ge=0, le=1)


class Golden(BaseModel):
    """The content of a golden.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tolerance: float = Field(default=0.05, gt=0, le=1)
    accuracy: float | None = Field(default=None, ge=0, le=1)
    labels: str | None = None
    image: tuple[GoldenImage, ...] = Field(default=(), max_length=MOST_IMAGES)


@dataclass(frozen=True)
class GoldenResult:
    """How a check went that was passed.

    Images compared and their largest difference of a probability; labelled images and their top-1 accuracy, if any.
    """

    images: int
    largest_difference: float
    labelled: int
    accuracy: float | None
    seconds: float

    def to_body(self) -> dict[str, Any]:
        """The result as the content of a control message."""
        return asdict(self)


def find_golden(version: Path) -> Path | None:
    """The golden.toml of a version's folder, or of its model's, if there is one."""
    candidates = (version / FOLDER / FILE, version.parent / FOLDER / FILE)
    return next((path for path in candidates if path.is_file()), None)


def check_golden(
    path: Path,
    backend: Backend,
    preprocessing: Preprocessing,
    output: Literal["logits", "probabilities"],
    *,
    labels: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> GoldenResult:
    """Run the stored images in batches of every size, and compare.

    Args:
        path: the golden.toml.
        backend: the loaded model.
        preprocessing: what is done to an image.
        output: what the model's scores are.
        labels: names of the classes, for messages.
        clock: seconds.

    Raises:
        BackendError: an image gets another class or score than it must, too few are right, or the file is wrong.
    """
    started = clock()
    golden = read_golden(path)
    largest = 0.0
    images = _load([image.file for image in golden.image], path, backend, preprocessing)
    for size in backend.batch_sizes if len(images) else ():
        probabilities = _run(backend, images, size, output)
        for image, row in zip(golden.image, probabilities, strict=True):
            largest = max(largest, _compare(image, row, golden.tolerance, labels, size))
    accuracy, count = None, 0
    if golden.labels is not None:
        expected = _read_labels(path.parent / golden.labels)
        count = len(expected)
        right = _count_right(expected, path, backend, preprocessing, output)
        accuracy = right / count
        if golden.accuracy is not None and accuracy < golden.accuracy:
            raise BackendError(
                f"golden check: {right} of {count} labelled images are right, a top-1 accuracy of {accuracy:.4f}; "
                f"expected at least {golden.accuracy} ({path})"
            )
    return GoldenResult(len(golden.image), largest, count, accuracy, clock() - started)


def read_golden(path: Path) -> Golden:
    """Read a golden.toml.

    Raises:
        BackendError: it is not TOML, or a key is unknown or has a wrong value.
    """
    try:
        return Golden.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BackendError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"key {'.'.join(map(str, p['loc'])) or 'file'}: {p['msg']}, got {p['input']!r}" for p in error.errors()
        )
        raise BackendError(f"{path}: {problems}") from error


def score_images(
    files: Sequence[Path], backend: Backend, preprocessing: Preprocessing, output: Literal["logits", "probabilities"]
) -> NDArray[np.float64]:
    """Probabilities [n, classes] of image files, run in batches of the largest size."""
    images = np.stack([_decode(file, backend, preprocessing) for file in files])
    return _run(backend, images, backend.batch_sizes[-1], output)


def _compare(image: GoldenImage, row: NDArray[np.float64], tolerance: float, labels: Sequence[str], size: int) -> float:
    best = int(row.argmax())
    if image.index >= len(row):
        raise BackendError(f"golden check: {image.file} is to get class {image.index} of only {len(row)}")
    if best != image.index:
        raise BackendError(
            f"golden check: {image.file} in a batch of {size} gets class {_name(best, labels)} with {row[best]:.3f}, "
            f"expected {_name(image.index, labels)}, which gets {row[image.index]:.3f}; the model or its preprocessing "
            "is not the one that the golden images were recorded with"
        )
    if image.score is None:
        return 0.0
    difference = abs(float(row[best]) - image.score)
    if not difference <= tolerance:
        raise BackendError(
            f"golden check: {image.file} in a batch of {size} gets class {_name(best, labels)} with {row[best]:.3f}, "
            f"expected {image.score:.3f} within {tolerance}"
        )
    return difference


def _name(index: int, labels: Sequence[str]) -> str:
    return f"{index} {labels[index]!r}" if index < len(labels) else str(index)


def _count_right(
    expected: Sequence[tuple[str, int]],
    path: Path,
    backend: Backend,
    preprocessing: Preprocessing,
    output: Literal["logits", "probabilities"],
) -> int:
    """How many labelled images get their class; a batch at a time, not to hold all of them."""
    size, right = backend.batch_sizes[-1], 0
    for part in _parts(expected, size):
        images = _load([file for file, _ in part], path, backend, preprocessing)
        best = _run(backend, images, size, output).argmax(axis=1)
        right += int((best == [index for _, index in part]).sum())
    return right


def _parts(entries: Sequence[tuple[str, int]], size: int) -> Iterator[Sequence[tuple[str, int]]]:
    for first in range(0, len(entries), size):
        yield entries[first : first + size]


def _load(files: Sequence[str], path: Path, backend: Backend, preprocessing: Preprocessing) -> NDArray[np.generic]:
    images = np.empty((len(files), *backend.input.shape), backend.input.dtype)
    for row, file in enumerate(files):
        images[row] = _decode(_find(file, path), backend, preprocessing)
    return images


def _find(file: str, path: Path) -> Path:
    found = (path.parent / file).resolve()
    # golden/ lies in the model's folder or in a version's; either way the images are the model's own.
    model = path.parent.parent.resolve()
    if not found.is_relative_to(model):
        raise BackendError(f"{path}: file {file!r} is outside of {model}; golden images are part of the model")
    return found


def _decode(file: Path, backend: Backend, preprocessing: Preprocessing) -> NDArray[np.generic]:
    image: NDArray[np.generic] = np.empty(backend.input.shape, backend.input.dtype)
    try:
        write_encoded(file.read_bytes(), preprocessing, image, max_pixels=_MOST_PIXELS)
    except OSError as error:
        raise BackendError(f"golden check: {file} cannot be read: {error.strerror}") from error
    return image


def _run(
    backend: Backend, images: NDArray[np.generic], size: int, output: Literal["logits", "probabilities"]
) -> NDArray[np.float64]:
    """Probabilities of images that are run in batches of one size, the last one padded with zeros."""
    rows = []
    for first in range(0, len(images), size):
        part = images[first : first + size]
        batch = np.zeros((size, *backend.input.shape), backend.input.dtype)
        batch[: len(part)] = part
        rows.append(np.array(backend.run(batch)[: len(part)], np.float64))
    scores = np.concatenate(rows)
    if output == "probabilities":
        return scores
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


def _read_labels(path: Path) -> list[tuple[str, int]]:
    """The labelled images of a file like the guide's val_label.txt: a name and an index a line."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        entries = [(name, int(index)) for name, index in lines]
    except (OSError, ValueError) as error:
        raise BackendError(f"{path} is no list of labels, a line each of a file and an index: {error}") from error
    if not 1 <= len(entries) <= MOST_LABELLED:
        raise BackendError(f"{path} has {len(entries)} labelled images; a golden check takes 1 to {MOST_LABELLED}")
    return entries
