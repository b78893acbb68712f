"""The accuracy is the one that the guide's script counts, and result.json is the file that it writes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repserve_bench.offline.dumps import DumpWriter, simulated_note
from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.evaluation import Evaluation, check_labels, evaluate_dumps, labels_by_stem, rank
from support.examples import scaled
from support.guide_oracle import original_result

FILE = Path("dumps/a_1.txt")


def evaluated(*images: tuple[int, list[float]]) -> Evaluation:
    evaluation = Evaluation()
    for label, scores in images:
        evaluation.add(FILE, label, np.array(scores, np.float32))
    return evaluation


def as_numbers(result: str) -> list[tuple[str, float]]:
    return [(item["key"], float(item["value"].rstrip("%"))) for item in json.loads(result)["value"]]


@settings(max_examples=scaled(40))
@given(classes=st.sampled_from([3, 10, 1000, 1001]), images=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
def test_the_guides_script_counts_the_same(classes: int, images: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, labels = Path(name) / "dumps", Path(name) / "val_label.txt"
        lines = []
        with DumpWriter(folder) as writer:
            for number in range(images):
                # A permutation: no two scores are equal, so that there is one order only.
                scores = rng.permutation(classes).astype(np.float32)
                rank_of_label = int(rng.integers(0, min(classes - 1, 8)))
                label = int(np.argsort(-scores)[rank_of_label]) - (classes == 1001)
                writer.write(f"val_{number:08}", scores)
                lines.append(f"val_{number:08}.JPEG {max(label, 0)}")
        labels.write_text("\n".join(lines))
        assert as_numbers(evaluate_dumps(folder, labels).to_json()) == original_result(folder, labels)


def test_the_file_is_the_guides() -> None:
    scores = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert json.loads(evaluated((5, scores), (4, scores), (0, scores)).to_json()) == {
        "title": "Overall statistical evaluation",
        "value": [
            {"key": "Number of images", "value": "3"},
            {"key": "Number of classes", "value": "6"},
            {"key": "Top1 accuracy", "value": "33.33%"},
            {"key": "Top2 accuracy", "value": "66.67%"},
            {"key": "Top3 accuracy", "value": "66.67%"},
            {"key": "Top4 accuracy", "value": "66.67%"},
            {"key": "Top5 accuracy", "value": "66.67%"},
        ],
    }


def test_the_summary_names_top_1_and_top_5() -> None:
    scores = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert evaluated((5, scores), (1, scores)).summary() == "top-1 50.00 %, top-5 100.00 %, 2 images"


def test_a_label_is_shifted_by_one_where_there_are_1001_classes() -> None:
    scores = [0.0] * 1001
    scores[8] = 1.0
    assert evaluated((7, scores)).accuracies[0] == 1.0
    assert evaluated((8, scores)).accuracies[0] == 0.0


def test_of_equal_scores_the_lower_class_comes_first() -> None:
    assert rank(np.array([0.0, 2.0, 1.0, 2.0, 1.0, 1.0, 0.0])).tolist() == [1, 3, 2, 4, 5]
    assert rank(np.tile([0.0, 1.0], 500)).tolist() == [1, 3, 5, 7, 9]


def test_fewer_classes_have_fewer_ranks() -> None:
    evaluation = evaluated((2, [1.0, 2.0, 0.0]))
    assert evaluation.accuracies == [0.0, 0.0, 1.0]
    assert evaluation.summary() == "top-1 0.00 %, top-3 100.00 %, 1 images"


@pytest.mark.parametrize(
    ("label", "scores", "problem"),
    [
        (0, [1.0, float("nan")], "its scores hold a NaN"),
        (0, [1.0, 2.0, 3.0], "3 scores, expected 2 as for the images before"),
        (2, [1.0, 2.0], "its label is class 2, counted from 0, and the model has 2 classes"),
    ],
)
def test_scores_that_cannot_be_counted_are_named(label: int, scores: list[float], problem: str) -> None:
    evaluation = evaluated((0, [1.0, 2.0]))
    with pytest.raises(OfflineError, match=rf"dumps/a_1\.txt: {problem}"):
        evaluation.add(FILE, label, np.array(scores))
    assert evaluation.images == 1


def test_labels_are_known_by_their_stem(tmp_path: Path) -> None:
    file = tmp_path / "val_label.txt"
    file.write_text("a.JPEG 3\na.png 3\nb.x.jpg 4\n")
    assert labels_by_stem(file) == {"a": 3, "b": 4}
    file.write_text("a.JPEG 3\na.png 4\n")
    with pytest.raises(OfflineError, match="two images are called a up to the first dot, with different labels"):
        labels_by_stem(file)


def test_images_without_a_label_are_named() -> None:
    check_labels(["a"], {"a": 1, "b": 2}, Path("val_label.txt"))
    with pytest.raises(OfflineError, match=r"val_label\.txt has no label for c and 1 more"):
        check_labels(["a", "c", "d"], {"a": 1}, Path("val_label.txt"))


def test_scores_of_a_simulated_device_have_no_accuracy(tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    with DumpWriter(folder, simulated="sim:310p") as writer:
        writer.write("a", np.array([1.0, 2.0], np.float32))
    (tmp_path / "val_label.txt").write_text("a.jpg 1\n")
    with pytest.raises(OfflineError, match="made up by a simulated device"):
        evaluate_dumps(folder, tmp_path / "val_label.txt")
    simulated_note(folder).unlink()
    assert evaluate_dumps(folder, tmp_path / "val_label.txt").images == 1
