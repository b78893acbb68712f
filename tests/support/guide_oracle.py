"""The readers of the guide's own scripts, written anew from what is known of them: they judge what we write.

Nothing here is imported from the code that is tested, and nothing is more tolerant than the scripts are.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

TOP = 5


def original_throughput(path: str) -> tuple[str, float]:
    """What test/parse.py takes from a throughput file, given as in the guide: batch size and images a second."""
    content = Path(path).read_text(encoding="utf-8")
    values = [text.strip() for text in re.findall(r":(.*?),", content.replace("\n", ",") + ",")]
    return Path(path).name.split("_")[3], float(values[7].replace("samples/s", ""))


def original_scores(folder: Path) -> dict[str, list[float]]:
    """What RepVGG_postprocess.py reads of a dump folder: every file in it, each image's scores by its stem."""
    scores = {}
    for file in folder.iterdir():
        stem = file.name.split(".")[0]
        line = file.read_text(encoding="utf-8").split("\n")[0]
        scores[stem[: stem.rfind("_")]] = [float(value) for value in line.strip().split(" ")]
    return scores


def original_predictions(folder: Path) -> dict[str, int]:
    """The best class of each image."""
    return {stem: int(np.argsort(-np.array(scores))[0]) for stem, scores in original_scores(folder).items()}


def original_labels(file: Path) -> dict[str, str]:
    """What RepVGG_postprocess.py reads of val_label.txt: the class of each image, as text, by its stem."""
    labels = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, label = line.strip().split(" ")
        labels[name.split(".")[0]] = label
    return labels


def original_result(folder: Path, labels_file: Path) -> list[tuple[str, float]]:
    """The keys and values of RepVGG_postprocess.py's result.json, percentages as numbers."""
    labels, hits, images, classes, ranks = original_labels(labels_file), np.zeros(TOP), 0, 0, 0
    for stem, scores in original_scores(folder).items():
        images += 1
        classes = len(scores)
        true_class = int(labels[stem]) + (1 if classes == 1001 else 0)
        order = np.argsort(-np.array(scores))
        ranks = min(len(order), TOP)
        for rank in range(ranks):
            if str(true_class) == str(order[rank]):
                hits[rank] += 1
                break
    accuracies = np.cumsum(hits) / images
    values = [("Number of images", float(images)), ("Number of classes", float(classes))]
    return values + [(f"Top{k + 1} accuracy", round(float(accuracies[k]) * 100, 2)) for k in range(ranks)]


def original_info(file: Path) -> list[tuple[int, str, int, int]]:
    """What the benchmark tool reads of an info file: index, path, width, height, cut at single blanks."""
    rows = [line.split(" ") for line in file.read_text(encoding="utf-8").splitlines()]
    return [(int(index), path, int(width), int(height)) for index, path, width, height in rows]
