"""The golden check: before a model is served, stored images must get the classes that are recorded for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from repserve_server.backends.base import Backend, BackendError
from repserve_server.channel.model_info import Output
from repserve_server.channel.worker_messages import GoldenResult
from repserve_server.imaging.model_input import write_encoded
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.golden import GoldenImage, find_image, read_golden, read_labelled

_MAX_PIXELS = 100_000_000


def check_golden(
    path: Path,
    backend: Backend,
    preprocessing: Preprocessing,
    output: Output,
    *,
    labels: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> GoldenResult:
    """Run the stored images in batches of every size, and compare.

    Args:
        path: the golden.toml.
        backend: the loaded model.
        preprocessing: how images are prepared for the model.
        output: the kind of the model's scores.
        labels: names of the classes, for messages.
        clock: seconds.

    Raises:
        BackendError: an image gets another class or score than it must, or too few are right.
        RepositoryError: golden.toml or what it names is wrong.
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
        expected = read_labelled(path.parent / golden.labels)
        count = len(expected)
        right = _count_right(expected, path, backend, preprocessing, output)
        accuracy = right / count
        if golden.accuracy is not None and accuracy < golden.accuracy:
            raise BackendError(
                f"golden check: {right} of {count} labelled images are correct, a top-1 accuracy of {accuracy:.4f}; "
                f"expected at least {golden.accuracy} ({path})"
            )
    return GoldenResult(
        images=len(golden.image),
        largest_difference=largest,
        labelled=count,
        accuracy=accuracy,
        seconds=clock() - started,
    )


def score_images(
    files: Sequence[Path], backend: Backend, preprocessing: Preprocessing, output: Output
) -> NDArray[np.float64]:
    """Compute the probabilities [n, classes] of image files, in batches of the largest size."""
    images = np.stack([_decode(file, backend, preprocessing) for file in files])
    return _run(backend, images, backend.batch_sizes[-1], output)


def _compare(image: GoldenImage, row: NDArray[np.float64], tolerance: float, labels: Sequence[str], size: int) -> float:
    best = int(row.argmax())
    if image.index >= len(row):
        raise BackendError(
            f"golden check: {image.file} has class {image.index}, but the model has only {len(row)} classes"
        )
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
    output: Output,
) -> int:
    """Count the labelled images that get their class, a batch at a time to save memory."""
    size, right = backend.batch_sizes[-1], 0
    for first in range(0, len(expected), size):
        part = expected[first : first + size]
        images = _load([file for file, _ in part], path, backend, preprocessing)
        best = _run(backend, images, size, output).argmax(axis=1)
        right += int((best == [index for _, index in part]).sum())
    return right


def _load(files: Sequence[str], path: Path, backend: Backend, preprocessing: Preprocessing) -> NDArray[np.generic]:
    images = np.empty((len(files), *backend.input.shape), backend.input.dtype)
    for row, file in enumerate(files):
        images[row] = _decode(find_image(file, path), backend, preprocessing)
    return images


def _decode(file: Path, backend: Backend, preprocessing: Preprocessing) -> NDArray[np.generic]:
    image: NDArray[np.generic] = np.empty(backend.input.shape, backend.input.dtype)
    try:
        write_encoded(file.read_bytes(), preprocessing, image, max_pixels=_MAX_PIXELS)
    except OSError as error:
        raise BackendError(f"golden check: {file} cannot be read: {error.strerror}") from error
    return image


def _run(backend: Backend, images: NDArray[np.generic], size: int, output: Output) -> NDArray[np.float64]:
    """Compute the probabilities of images in batches of one size, the last one padded with zeros."""
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
