from __future__ import annotations

from typing import TYPE_CHECKING

from repserve_bench.demo import compare_predictions
from repserve_client.results import RankedClass

if TYPE_CHECKING:
    pass


def test_equal_predictions_leave_nothing_to_say() -> None:
    assert compare_predictions({"a": RankedClass(1, "one", 0.9)}, {"a": 1}) == []


def test_each_difference_is_named() -> None:
    served = {
        "a": RankedClass(1, "one", 0.9),
        "b": RankedClass(0, "zero", 0.9),
        "c": RankedClass(2, "two", 0.9),
    }
    assert compare_predictions(served, {"a": 2, "b": 0, "d": 4}) == [
        "a: served 1, model card 2",
        "c: served 2, model card None",
        "d: served no answer, model card 4",
    ]
