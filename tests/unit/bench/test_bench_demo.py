from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from repserve_bench.demo import compare_predictions
from repserve_bench.environment import cgroup_cores, usable_cores
from repserve_client.results import RankedClass

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize(("text", "cores"), [("max 100000", None), ("150000 100000", 1.5), ("nonsense", None)])
def test_the_cgroup_quota_is_read_in_cores(tmp_path: Path, text: str, cores: float | None) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text, encoding="ascii")
    assert cgroup_cores(file) == cores


def test_no_cgroup_file_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_cores(tmp_path / "absent") is None
    assert usable_cores() >= 1
