"""The predictions of a replay: as a file, by class, against those of another run, and the worst mistakes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from repserve_bench.accuracy import Accuracy
from repserve_bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from repserve_bench.dataset import Sample
    from repserve_client.results import RankedClass

COLUMNS = ("image", "predicted_index", "label", "probability", "true_index", "in_top5")
MISTAKES = 12


class PredictionsError(BenchError):
    """A file of predictions cannot be used; the message names the file and the line."""


@dataclass(frozen=True)
class Prediction:
    """The first answer for an image."""

    best: RankedClass
    ranked: tuple[int, ...]
    """Class indices, most probable first, as many as were requested."""


@dataclass(frozen=True)
class Disagreement:
    """How two sets of predictions differ."""

    images: int
    """Images that both have."""
    different: tuple[str, ...]
    """Names of those with another best class, sorted."""

    @property
    def share(self) -> float:
        """Of the images that both have, 0 to 1."""
        return len(self.different) / self.images if self.images else 0.0

    @property
    def text(self) -> str:
        """How many differ, in words."""
        share = f"{100 * self.share:.2f} %"
        return f"{len(self.different)} of {self.images} images, {share}, differ from the reference"


def write_predictions(file: Path, samples: Sequence[Sample], predictions: Mapping[str, Prediction]) -> None:
    """Write the first answer for each image: its best class, and the true one where it is known.

    Raises:
        OSError: The file cannot be written.
    """
    labels = {sample.name: sample.label for sample in samples}
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for name, prediction in sorted(predictions.items()):
            best, label = prediction.best, labels.get(name)
            known = ("", "") if label is None else (label, int(label in prediction.ranked[:5]))
            writer.writerow([name, best.index, best.label, f"{best.probability:.6f}", *known])


def read_predictions(file: Path) -> dict[str, int]:
    """Read the best class of each image from a CSV file with the columns image and predicted_index.

    Raises:
        PredictionsError: The columns are not there, or an index is not a number.
        OSError: The file cannot be read.
    """
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = {"image", "predicted_index"} - set(reader.fieldnames or ())
        if missing:
            raise PredictionsError(f"{file} has no columns {', '.join(sorted(missing))}")
        found = {}
        for row in reader:
            name, index = row["image"], row["predicted_index"]
            if name is None or index is None or not (index.isascii() and index.isdigit()):
                raise PredictionsError(
                    f"{file}, line {reader.line_num}: expected a class index from 0, found {index!r}"
                )
            found[name] = int(index)
    return found


def compare_with(reference: Mapping[str, int], predictions: Mapping[str, Prediction]) -> Disagreement:
    """Compare the best classes of a replay with those of another run."""
    common = reference.keys() & predictions.keys()
    different = sorted(name for name in common if predictions[name].best.index != reference[name])
    return Disagreement(len(common), tuple(different))


def accuracy_by_class(samples: Sequence[Sample], predictions: Mapping[str, Prediction]) -> dict[int, Accuracy]:
    """Count hits for each true class, in the order of the classes."""
    found: dict[int, Accuracy] = {}
    for sample in samples:
        prediction = predictions.get(sample.name)
        if prediction is not None and sample.label is not None:
            found.setdefault(sample.label, Accuracy()).add(sample.label, prediction.ranked)
    return dict(sorted(found.items()))


def class_names(predictions: Mapping[str, Prediction]) -> dict[int, str]:
    """Return the names of the classes that were a best answer."""
    return {entry.best.index: entry.best.label for entry in predictions.values() if entry.best.label}


def worst_mistakes(
    samples: Sequence[Sample], predictions: Mapping[str, Prediction], names: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Return the wrong answers that the model was surest of, surest first, as JSON values.

    Args:
        samples: The images and their true classes.
        predictions: What was answered, by file name.
        names: Names of the classes, as far as they are known.
    """
    mistakes: list[dict[str, Any]] = [
        {
            "image": sample.name,
            "path": str(sample.path),
            "true_index": sample.label,
            "true_label": names.get(sample.label, ""),
            "predicted_index": best.index,
            "predicted_label": best.label or names.get(best.index, ""),
            "probability": best.probability,
        }
        for sample in samples
        if sample.label is not None
        and sample.name in predictions
        and (best := predictions[sample.name].best).index != sample.label
    ]
    return sorted(mistakes, key=lambda mistake: (-mistake["probability"], mistake["image"]))[:MISTAKES]
