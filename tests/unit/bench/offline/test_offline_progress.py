from __future__ import annotations

import io

from rich.console import Console

from repserve_bench.offline.progress import ImageBar, ImageLines, show_images
from support.fakes import FakeClock


def test_lines_come_every_two_seconds() -> None:
    stream, clock = io.StringIO(), FakeClock()
    with ImageLines(Console(file=stream, width=120), "preprocess", 100, clock=clock) as lines:
        for seconds, images in ((0.5, 10), (1.4, 10), (0.2, 22), (1.0, 8), (1.1, 2)):
            clock.advance(seconds)
            lines.advance(images)
    assert stream.getvalue().splitlines() == [
        "preprocess: 42/100 images, 20.0 a second",
        "preprocess: 52/100 images, 12.4 a second",
    ]


def test_a_terminal_gets_a_bar() -> None:
    stream = io.StringIO()
    bar = show_images(Console(file=stream, force_terminal=True, width=120), "infer", 100)
    assert isinstance(bar, ImageBar)
    with bar:
        bar.advance(42)
    assert "42/100" in stream.getvalue()
    assert isinstance(show_images(Console(file=stream, force_terminal=False), "infer", 1), ImageLines)
