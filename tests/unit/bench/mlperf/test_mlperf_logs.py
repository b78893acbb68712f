from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from repserve_bench.errors import LoadError
from repserve_bench.mlperf.logs import ACCURACY_LOG, DETAIL_LOG, read_outcome, read_top1

if TYPE_CHECKING:
    from pathlib import Path


def log(folder: Path, **entries: object) -> None:
    lines = [f":::MLLOG {json.dumps({'key': key, 'value': value, 'time_ms': 1.0})}" for key, value in entries.items()]
    (folder / DETAIL_LOG).write_text("\n".join(["not of the log", *lines]), encoding="utf-8")


def test_a_valid_run(tmp_path: Path) -> None:
    log(
        tmp_path,
        **{
            "result_validity": "VALID",
            "result_90.00_percentile_latency_ns": 1_360_000,
            "result_99.00_percentile_latency_ns": 2_000_000,
            "result_query_count": 700,
        },
    )
    outcome = read_outcome(tmp_path, "SingleStream")
    assert outcome.valid
    assert outcome.metric == "p90 of a query, ms"
    assert outcome.value == pytest.approx(1.36)
    assert outcome.p99_seconds == pytest.approx(0.002)
    assert (outcome.queries, outcome.remark) == (700, "")


def test_an_invalid_run_says_why(tmp_path: Path) -> None:
    log(
        tmp_path,
        result_validity="INVALID",
        result_invalid_reason="Min duration",
        early_stopping_result="* Only\n processed 5.",
    )
    outcome = read_outcome(tmp_path, "MultiStream")
    assert not outcome.valid
    assert outcome.value is None
    assert outcome.remark == "Min duration Only processed 5."


@pytest.mark.parametrize("written", [False, True])
def test_a_run_without_a_verdict_is_an_error(tmp_path: Path, written: bool) -> None:
    if written:
        log(tmp_path, something="else")
    with pytest.raises(LoadError, match="LoadGen left no"):
        read_outcome(tmp_path, "Offline")


def test_answers_are_judged_by_their_index(tmp_path: Path) -> None:
    entries = [
        {"seq_id": 0, "qsl_idx": 2, "data": "03000000"},
        {"seq_id": 1, "qsl_idx": 0, "data": "01010000"},
        {"seq_id": 2, "qsl_idx": 1, "data": "FFFFFFFF"},
        {"seq_id": 3, "qsl_idx": 3, "data": "00000000"},
    ]
    (tmp_path / ACCURACY_LOG).write_text(json.dumps(entries), encoding="utf-8")
    assert read_top1(tmp_path, [257, 5, 3, None]) == pytest.approx(2 / 3)
    assert read_top1(tmp_path, [None] * 4) is None
    (tmp_path / ACCURACY_LOG).write_text("[", encoding="utf-8")
    with pytest.raises(LoadError, match="left no answers"):
        read_top1(tmp_path, [1])
