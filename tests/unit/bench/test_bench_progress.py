from __future__ import annotations

import io
from array import array
from collections import Counter

from rich.console import Console

from repserve_bench.accuracy import Accuracy
from repserve_bench.progress import LiveBar, PlainLines, make_display, share_done, status_line
from repserve_bench.tally import Tally

TALLY = Tally(
    requests=50,
    images=48,
    latencies=array("d", [0.0125] * 48),
    statuses=Counter(OK=48, INTERNAL=2),
    retries=Counter(UNAVAILABLE=3),
    accuracy=Accuracy(images=48, top1_hits=36, top5_hits=40),
)


def test_the_line_shows_rate_accuracy_latency_and_errors() -> None:
    assert status_line(TALLY, 2.0, accuracy=True) == "24.0 img/s, top-1 75.00 %, p99 12.5 ms, 2 errors, 3 retries"


def test_an_accuracy_that_means_nothing_is_not_shown() -> None:
    assert "top-1" not in status_line(TALLY, 2.0, accuracy=False)


def test_the_line_before_the_first_answer() -> None:
    assert status_line(Tally(), 0.0, accuracy=True) == "0.0 img/s, 0 errors"


def test_what_lags_says_how_much_is_done() -> None:
    assert share_done(TALLY, 1.0, requests=100, seconds=0.0) == 0.5
    assert share_done(TALLY, 1.0, requests=0, seconds=4.0) == 0.25
    assert share_done(TALLY, 1.0, requests=100, seconds=4.0) == 0.25
    assert share_done(TALLY, 9.0, requests=40, seconds=4.0) == 1.0


def test_plain_lines_come_every_two_seconds() -> None:
    now = [100.0]
    console = Console(file=io.StringIO(), width=120)
    lines = PlainLines(console, requests=100, seconds=0.0, accuracy=True, clock=lambda: now[0])
    with lines:
        for moment in (100.2, 101.9, 102.1, 103.0, 104.2):
            now[0] = moment
            lines(TALLY, moment - 100.0)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue().splitlines()
    assert len(printed) == 2
    assert "50/100 requests" in printed[0]
    assert "75.00 %" in printed[0]


def test_a_terminal_gets_a_bar() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    display = make_display(console, requests=100, seconds=0.0, accuracy=True)
    assert isinstance(display, LiveBar)
    with display:
        display(TALLY, 2.0)
    assert "50/100 requests" in stream.getvalue()
    plain = make_display(Console(file=io.StringIO()), requests=1, seconds=0.0, accuracy=True)
    assert isinstance(plain, PlainLines)
