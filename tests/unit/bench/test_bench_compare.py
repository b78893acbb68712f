from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from repserve_bench.compare import Change, Comparison, compare, comparison_table, describe_noise

BEFORE: dict[str, Any] = {
    "fps": 100.0,
    "latency_seconds": {"p50": 0.010, "p90": 0.015, "p99": 0.020, "p99.9": 0.021},
    "accuracy": {"top1": 0.72, "top5": 0.9},
    "failed_requests": 0,
    "mean_batch_size": 4.0,
    "mean_decode_seconds": None,
    "client": {"cpu_milliseconds_per_request": 0.2},
    "model": {"name": "digits", "devices": ["cpu"]},
    "stability": {
        "windows": [
            {"per_second": 90.0, "p50_seconds": 0.0098, "p99_seconds": 0.019},
            {"per_second": 100.0, "p50_seconds": 0.0100, "p99_seconds": 0.020},
            {"per_second": 110.0, "p50_seconds": 0.0102, "p99_seconds": 0.021},
        ],
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    after = copy.deepcopy(BEFORE)
    *parents, last = path.split("/")
    target = after
    for parent in parents:
        target = target[parent]
    target[last] = value
    return after


def change(found: Comparison, name: str) -> Change:
    return next(entry for entry in found.changes if entry.column.title == name)


def test_the_same_report_has_no_verdict() -> None:
    found = compare(BEFORE, copy.deepcopy(BEFORE))
    assert not any(entry.verdict for entry in found.changes)
    assert not found.differing


@pytest.mark.parametrize(
    ("path", "value", "name", "verdict"),
    [
        ("fps", 150.0, "throughput, fps", "better"),
        ("fps", 50.0, "throughput, fps", "worse"),
        ("fps", 109.0, "throughput, fps", "within noise"),
        ("latency_seconds/p50", 0.0101, "p50, ms", "within noise"),
        ("latency_seconds/p50", 0.0104, "p50, ms", "worse"),
        ("latency_seconds/p99", 0.030, "p99, ms", "worse"),
        ("latency_seconds/p99", 0.0205, "p99, ms", "within noise"),
        ("accuracy/top1", 0.719, "top-1, %", "worse"),
        ("failed_requests", 3, "failed", "worse"),
        ("mean_batch_size", 9.0, "mean batch", ""),
        ("mean_decode_seconds", 0.001, "mean decode, ms", ""),
    ],
)
def test_a_change_is_judged_by_its_own_noise(path: str, value: float, name: str, verdict: str) -> None:
    assert change(compare(BEFORE, changed(path, value)), name).verdict == verdict


def test_the_ratio_is_after_over_before() -> None:
    entry = change(compare(BEFORE, changed("latency_seconds/p50", 0.005)), "p50, ms")
    assert (entry.before, entry.after, entry.ratio) == (0.010, 0.005, 0.5)


def test_conditions_that_differ_are_listed() -> None:
    assert compare(BEFORE, changed("model/devices", ["npu:0"])).differing == ("devices: cpu and npu:0",)


def test_an_open_and_a_closed_loop_differ_in_words() -> None:
    before, after = ({**BEFORE, "settings": {"arrivals": value}} for value in (None, {"rate": 200.0}))
    assert compare(before, after).differing == ("requests/s (none in a closed loop): none and 200.0",)


def test_the_table_leaves_out_what_neither_has() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(comparison_table(compare(BEFORE, changed("fps", 200.0)), ("before", "after")))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "2.000" in text
    assert "mean decode" not in text


def test_of_runs_with_few_windows_no_difference_is_judged() -> None:
    short = changed("stability/windows", BEFORE["stability"]["windows"][:2])
    found = compare(BEFORE, changed("fps", 500.0) | {"stability": short["stability"]})
    assert change(found, "throughput, fps").verdict == "unknown"
    assert describe_noise(found).startswith("Noise: unknown, because a run has fewer than 3 windows")
    worse = compare(BEFORE, changed("accuracy/top1", 0.5) | {"stability": short["stability"]})
    assert change(worse, "top-1, %").verdict == "worse", "that is no matter of time"


def test_the_noise_is_described() -> None:
    text = describe_noise(compare(BEFORE, changed("fps", 200.0)))
    assert text == (
        "Noise: within a run, windows deviate from its mean by up to 10.0 % of its throughput, 2.0 % of its p50, "
        "5.0 % of its p99."
    )
