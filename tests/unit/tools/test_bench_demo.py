from __future__ import annotations

from demo import compare_predictions
from repserve_bench.predictions import Prediction
from repserve_client.results import RankedClass


def answer(index: int, label: str) -> Prediction:
    return Prediction(RankedClass(index, label, 0.9), (index,))


def test_equal_predictions_leave_nothing_to_say() -> None:
    assert compare_predictions({"a": answer(1, "one")}, {"a": 1}) == []


def test_each_difference_is_named() -> None:
    served = {
        "a": answer(1, "one"),
        "b": answer(0, "zero"),
        "c": answer(2, "two"),
    }
    assert compare_predictions(served, {"a": 2, "b": 0, "d": 4}) == [
        "a: served 1, model card 2",
        "c: served 2, model card None",
        "d: served no answer, model card 4",
    ]
