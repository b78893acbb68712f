from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.tally import Tally
from repserve_bench.windows import Stability, Window, cut_into_windows, spread_of

STARTED = 1000.0


def window(per_second: float = 100.0, p99: float = 0.02) -> Window:
    return Window(int(per_second), per_second, p99 / 2, p99)


def cut(ended: list[float], latencies: list[float], elapsed: float, length: float = 1.0) -> Stability:
    tally = Tally(latencies=array("d", latencies), ended=array("d", [STARTED + offset for offset in ended]))
    return cut_into_windows(tally, STARTED, elapsed, length)


def test_a_run_is_cut_where_the_windows_end() -> None:
    found = cut([0.2, 0.999, 1.0, 1.5, 2.1, 3.2], [0.01, 0.03, 0.05, 0.07, 0.09, 9.0], elapsed=3.4)
    assert [entry.requests for entry in found.windows] == [2, 2, 1], "what is left at the end is in no window"
    assert [entry.p99_seconds for entry in found.windows] == [0.03, 0.07, 0.09]
    assert found.windows[0].per_second == 2.0


def test_a_window_of_another_length_counts_by_the_second() -> None:
    assert cut([0.1, 0.2, 0.3, 0.4], [0.01] * 4, elapsed=0.5, length=0.5).windows[0].per_second == 8.0


def test_a_window_without_an_answer_is_there() -> None:
    found = cut([0.5, 2.5], [0.01, 0.01], elapsed=3.0)
    assert [entry.requests for entry in found.windows] == [1, 0, 1]
    assert not found.stable


def test_requests_that_were_given_up_are_in_the_percentiles_of_their_window() -> None:
    tally = Tally(latencies=array("d", [0.005] * 9), ended=array("d", [STARTED + 0.5] * 9))
    tally.give_up(STARTED + 0.1, STARTED + 0.6)
    first, second = cut_into_windows(tally, STARTED, 2.0, 1.0).windows
    assert (first.requests, first.p50_seconds) == (9, 0.005)
    assert first.p99_seconds == pytest.approx(0.5)
    assert (second.requests, second.p50_seconds, second.p99_seconds) == (0, None, None)


@given(ended=st.lists(st.floats(0, 9.9), max_size=60), length=st.sampled_from([0.5, 1.0, 2.0]))
def test_whole_windows_hold_every_answer_once(ended: list[float], length: float) -> None:
    found = cut(ended, [0.01] * len(ended), elapsed=10.0, length=length)
    assert sum(entry.requests for entry in found.windows) == len(ended)


def test_windows_that_agree_are_stable() -> None:
    assert Stability(1.0, (window(100), window(105), window(95))).complaint == ""


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([window(), window()], "too short to tell: 2 windows"),
        ([window(100), window(100), window(130)], "not stable: throughput"),
        ([window(p99=0.02), window(p99=0.02), window(p99=0.03)], "not stable: p99"),
    ],
)
def test_what_is_not_stable_says_why(windows: list[Window], message: str) -> None:
    stability = Stability(1.0, tuple(windows))
    assert message in stability.complaint
    assert not stability.stable


def test_only_the_last_windows_are_compared() -> None:
    assert Stability(1.0, (window(10), window(), window(), window())).stable


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=10), st.floats(0.1, 100))
def test_the_spread_does_not_depend_on_the_unit(values: list[float], factor: float) -> None:
    assert spread_of([factor * value for value in values]) == pytest.approx(spread_of(values))
