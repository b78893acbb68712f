"""How far a replay is: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from repserve_bench.tally import Tally

LINE_INTERVAL = 2.0


class Display(Protocol):
    """Shows the counts of a running replay."""

    def __enter__(self) -> Self:
        """Starts to show."""

    def __exit__(self, *_: object) -> None:
        """Leaves the terminal as it was."""

    def __call__(self, tally: Tally, elapsed: float) -> None:
        """Shows the counts ``elapsed`` seconds after the start."""


def make_display(console: Console, *, requests: int, seconds: float, accuracy: bool) -> Display:
    """Returns a live bar when the console is a terminal, else something that prints a line every two seconds.

    Args:
        console: Where to show it.
        requests: Requests that the replay makes at least.
        seconds: Seconds that the replay lasts at least.
        accuracy: Whether the top-1 so far means anything.
    """
    kind = LiveBar if console.is_terminal else PlainLines
    return kind(console, requests=requests, seconds=seconds, accuracy=accuracy)


def share_done(tally: Tally, elapsed: float, *, requests: int, seconds: float) -> float:
    """Returns how much of a replay is done, 0 to 1: of its requests or its seconds, whichever lags."""
    by_requests = tally.requests / requests if requests else 1.0
    by_time = elapsed / seconds if seconds else 1.0
    return min(by_requests, by_time, 1.0)


def status_line(tally: Tally, elapsed: float, *, accuracy: bool) -> str:
    """Returns the figures so far: images a second, top-1, p99, errors and retries."""
    fps = tally.images / elapsed if elapsed else 0.0
    parts = [f"{fps:.1f} img/s"]
    top1 = tally.accuracy.top1
    if accuracy and top1 is not None:
        parts.append(f"top-1 {100 * top1:.2f} %")
    p99 = tally.percentile(99)
    if p99 is not None:
        parts.append(f"p99 {1000 * p99:.1f} ms")
    parts.append(f"{tally.failed} errors")
    if tally.retries:
        parts.append(f"{tally.retries.total()} retries")
    return ", ".join(parts)


class LiveBar:
    """A bar that is redrawn in place."""

    def __init__(self, console: Console, *, requests: int, seconds: float, accuracy: bool) -> None:
        self._requests, self._seconds, self._accuracy = requests, seconds, accuracy
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("preparing", total=1.0, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, tally: Tally, elapsed: float) -> None:
        """Redraws the bar."""
        done = share_done(tally, elapsed, requests=self._requests, seconds=self._seconds)
        self._bar.update(
            self._task,
            description=requests_done(tally, self._requests),
            completed=done,
            figures=status_line(tally, elapsed, accuracy=self._accuracy),
        )


class PlainLines:
    """A line every two seconds, for logs and pipes."""

    def __init__(
        self,
        console: Console,
        *,
        requests: int,
        seconds: float,  # noqa: ARG002 - the line shows the seconds that passed
        accuracy: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._requests, self._accuracy = console, requests, accuracy
        self._clock = clock
        self._next = clock() + LINE_INTERVAL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, tally: Tally, elapsed: float) -> None:
        """Prints a line when two seconds have passed since the last."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + LINE_INTERVAL
        figures = status_line(tally, elapsed, accuracy=self._accuracy)
        self._console.print(
            f"{elapsed:6.1f} s  {requests_done(tally, self._requests)}  {figures}",
            highlight=False,
            soft_wrap=True,
        )


def requests_done(tally: Tally, requests: int) -> str:
    """Returns the requests that have ended, and of how many where that is set."""
    return f"{tally.requests}/{requests} requests" if requests else f"{tally.requests} requests"
