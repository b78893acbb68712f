from __future__ import annotations

from pathlib import Path

import pytest

from repserve_bench.dataset import Sample
from repserve_bench.predictions import (
    Prediction,
    PredictionsError,
    accuracy_by_class,
    class_names,
    compare_with,
    read_predictions,
    worst_mistakes,
    write_predictions,
)
from repserve_client.results import RankedClass

SAMPLES = [Sample(Path(f"/images/{name}.jpg"), label) for name, label in (("a", 1), ("b", 1), ("c", 2), ("d", None))]


def prediction(index: int, probability: float = 0.5, others: tuple[int, ...] = ()) -> Prediction:
    return Prediction(RankedClass(index, f"class {index}", probability), (index, *others))


PREDICTIONS = {
    "a.jpg": prediction(1),
    "b.jpg": prediction(2, 0.9, others=(1,)),
    "c.jpg": prediction(3, 0.6),
    "d.jpg": prediction(4),
}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    write_predictions(file, SAMPLES, PREDICTIONS)
    assert read_predictions(file) == {"a.jpg": 1, "b.jpg": 2, "c.jpg": 3, "d.jpg": 4}
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[2] == "b.jpg,2,class 2,0.900000,1,1", "wrong at first, but in the top 5"
    assert lines[4] == "d.jpg,4,class 4,0.500000,,", "without a label nothing is right or wrong"


@pytest.mark.parametrize(
    ("content", "message"),
    [("image,label\na.jpg,1\n", "has no columns predicted_index"), ("image,predicted_index\na.jpg,x\n", "line 2")],
)
def test_another_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "predictions.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(PredictionsError, match=message):
        read_predictions(file)


def test_disagreements_are_counted_over_what_both_have() -> None:
    found = compare_with({"a.jpg": 1, "b.jpg": 1, "z.jpg": 9}, PREDICTIONS)
    assert (found.images, found.different, found.share) == (2, ("b.jpg",), 0.5)
    assert compare_with({}, PREDICTIONS).share == 0.0


def test_accuracy_is_counted_by_true_class() -> None:
    found = accuracy_by_class(SAMPLES, PREDICTIONS)
    assert list(found) == [1, 2]
    assert (found[1].images, found[1].top1, found[1].top5) == (2, 0.5, 1.0)
    assert (found[2].top1, found[2].top5) == (0.0, 0.0)


def test_the_worst_mistake_is_the_surest() -> None:
    mistakes = worst_mistakes(SAMPLES, PREDICTIONS, class_names(PREDICTIONS))
    assert [mistake["image"] for mistake in mistakes] == ["b.jpg", "c.jpg"]
    assert (mistakes[0]["true_label"], mistakes[0]["predicted_label"]) == ("class 1", "class 2")
    assert mistakes[1]["true_label"] == "class 2"
