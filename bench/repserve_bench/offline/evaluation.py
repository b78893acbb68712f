"""The accuracy, counted and written as by the guide's RepVGG_postprocess.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from repserve_bench.accuracy import TOP
from repserve_bench.dataset import read_labels
from repserve_bench.offline.dumps import list_dumps, read_dump, simulated_note
from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.files import stem_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES_WITH_BACKGROUND = 1001
"""Models of so many classes have a background class before the 1000 of ImageNet."""


class Evaluation:
    """Counts the rank of each image's true class."""

    def __init__(self) -> None:
        self.images = 0
        self.classes = 0
        self._hits = np.zeros(TOP, np.int64)

    def add(self, source: Path, label: int, scores: NDArray[np.floating]) -> None:
        """Count one image.

        Args:
            source: The file that the scores come from, for errors.
            label: Index of the true class, from 0; shifted by one where the model has 1001 classes.
            scores: One for each class.

        Raises:
            OfflineError: The scores hold a NaN, are not as many as before, or there is no such class.
        """
        if np.isnan(scores).any():
            raise OfflineError(f"{source}: its scores hold a NaN, so that its classes cannot be ranked")
        if self.images and len(scores) != self.classes:
            raise OfflineError(f"{source}: {len(scores)} scores, expected {self.classes} as for the images before")
        self.classes = len(scores)
        true_class = label + 1 if self.classes == CLASSES_WITH_BACKGROUND else label
        if true_class >= self.classes:
            raise OfflineError(
                f"{source}: its label is class {label}, counted from 0, and the model has {self.classes} classes; are "
                "these the labels of another model?"
            )
        self.images += 1
        self._hits[np.flatnonzero(rank(scores) == true_class)] += 1

    @property
    def accuracies(self) -> list[float]:
        """Top-1, top-2 ... top-5, or as many as there are classes, as shares of 1."""
        return [float(hits) / max(1, self.images) for hits in np.cumsum(self._hits)[: min(TOP, self.classes)]]

    def summary(self) -> str:
        """Return one line for people."""
        top = self.accuracies
        return f"top-1 {100 * top[0]:.2f} %, top-{len(top)} {100 * top[-1]:.2f} %, {self.images} images"

    def to_json(self) -> str:
        """Return the content of the guide's result.json; percentages with two decimals."""
        values = [("Number of images", f"{self.images}"), ("Number of classes", f"{self.classes}")]
        values += [(f"Top{k} accuracy", f"{100 * top:.2f}%") for k, top in enumerate(self.accuracies, start=1)]
        return json.dumps(
            {"title": "Overall statistical evaluation", "value": [{"key": key, "value": text} for key, text in values]}
        )


def rank(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the classes of the five highest scores, highest first.

    Of equal scores the lower class comes first. The guide's script leaves their order to numpy's unstable sort.
    """
    return np.argsort(-scores, kind="stable")[:TOP]


def labels_by_stem(file: Path) -> dict[str, int]:
    """Read val_label.txt; names are cut at their first dot, as the dumps' are.

    Raises:
        DatasetError: A line cannot be read.
        OfflineError: Two images of one stem have different labels.
    """
    labels: dict[str, int] = {}
    for name, label in read_labels(file).items():
        stem = stem_of(name)
        if labels.setdefault(stem, label) != label:
            raise OfflineError(f"{file}: two images are called {stem} up to the first dot, with different labels")
    return labels


def check_labels(stems: Iterable[str], labels: Mapping[str, int], file: Path) -> None:
    """Check that every image has a label.

    Raises:
        OfflineError: One has none.
    """
    missing = [stem for stem in stems if stem not in labels]
    if missing:
        raise OfflineError(
            f"{file} has no label for {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
        )


def evaluate_dumps(folder: Path, labels_file: Path) -> Evaluation:
    """Count the accuracy of all dumps in a folder.

    Raises:
        DatasetError: The labels cannot be read.
        OfflineError: An image has no label, a dump is damaged, or the scores are a simulated device's.
    """
    if simulated_note(folder).exists():
        raise OfflineError(
            f"{simulated_note(folder)} exists: these scores were made up by a simulated device, so there is no "
            "accuracy; run the model on a real one"
        )
    dumps, labels = list_dumps(folder), labels_by_stem(labels_file)
    check_labels(dumps, labels, labels_file)
    evaluation = Evaluation()
    for stem, file in dumps.items():
        evaluation.add(file, labels[stem], read_dump(file))
    return evaluation
