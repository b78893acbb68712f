from __future__ import annotations

import io
from array import array
from collections import Counter

from rich.console import Console

from repserve_bench.accuracy import Accuracy
from repserve_bench.progress import display, image_display, load_display, share_done, status_line
from repserve_bench.tally import Tally
from support.fakes import FakeClock

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


def test_progress_is_the_smaller_share_of_requests_and_time() -> None:
    assert share_done(TALLY, 1.0, requests=100, seconds=0.0) == 0.5
    assert share_done(TALLY, 1.0, requests=0, seconds=4.0) == 0.25
    assert share_done(TALLY, 1.0, requests=100, seconds=4.0) == 0.25
    assert share_done(TALLY, 9.0, requests=40, seconds=4.0) == 1.0


def test_plain_lines_come_every_two_seconds() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with display(Console(file=stream, width=120), clock) as show:
        for seconds in (0.2, 1.7, 0.2, 0.9, 1.2):
            clock.advance(seconds)
            show(0.5, f"{clock.now:.1f}")
    assert stream.getvalue().splitlines() == ["1002.1", "1004.2"]


def test_a_terminal_gets_a_bar_with_the_counts_of_the_load() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with load_display(console, requests=100, seconds=0.0, accuracy=True) as show:
        show(TALLY, 2.0)
    assert "50/100 requests" in stream.getvalue()
    assert "75.00 %" in stream.getvalue()
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in stream.getvalue(), "a bar"


def test_images_are_counted_with_their_rate() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with image_display(Console(file=stream, force_terminal=True, width=120), "infer", 40, clock) as advance:
        clock.advance(2.0)
        advance(8)
        advance(2)
    assert "infer: 10/40 images, 5.0 a second" in stream.getvalue()
