"""The progress of a measurement: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from repserve_bench.tally import Tally

LINE_INTERVAL = 2.0


@contextlib.contextmanager
def display(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[float, str], None]]:
    """Show a bar that disappears at the end if the console is a terminal, or else a line every two seconds.

    Yields:
        A function to call with the share that is done, 0 to 1, and a line of text.
    """
    if console.is_terminal:
        columns = (BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("preparing", total=1.0)
            yield lambda share, text: bar.update(task, description=text, completed=share)
        return
    due = clock() + LINE_INTERVAL

    def show(_share: float, text: str) -> None:  # the text has the counts
        nonlocal due
        if clock() >= due:
            due = clock() + LINE_INTERVAL
            console.print(text, highlight=False, soft_wrap=True)

    yield show


@contextlib.contextmanager
def load_display(
    console: Console, *, requests: int, seconds: float, accuracy: bool
) -> Iterator[Callable[[Tally, float], None]]:
    """Show the counts of a load.

    Args:
        console: Where to show them.
        requests: Requests that the load makes at least.
        seconds: Seconds that it lasts at least.
        accuracy: Whether the top-1 so far means anything.

    Yields:
        A function to call with the counts so far and the seconds since the start.
    """
    with display(console) as show_share:

        def show(tally: Tally, elapsed: float) -> None:
            done = f"{tally.requests}/{requests} requests" if requests else f"{tally.requests} requests"
            text = f"{elapsed:6.1f} s  {done}  {status_line(tally, elapsed, accuracy=accuracy)}"
            show_share(share_done(tally, elapsed, requests=requests, seconds=seconds), text)

        yield show


@contextlib.contextmanager
def image_display(
    console: Console, what: str, total: int, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Show a growing count of images.

    Args:
        console: Where to show it.
        what: What is being done, such as ``preprocess``.
        total: Images to do.
        clock: Seconds.

    Yields:
        A function to call with the number of images that were just done.
    """
    started, done = clock(), 0
    with display(console) as show:

        def advance(images: int) -> None:
            nonlocal done
            done += images
            rate = done / max(clock() - started, 1e-9)
            show(done / total, f"{what}: {done}/{total} images, {rate:.1f} a second")

        yield advance


def share_done(tally: Tally, elapsed: float, *, requests: int, seconds: float) -> float:
    """Return how much of a load is done, 0 to 1: of its requests or its seconds, whichever lags."""
    by_requests = tally.requests / requests if requests else 1.0
    by_time = elapsed / seconds if seconds else 1.0
    return min(by_requests, by_time, 1.0)


def status_line(tally: Tally, elapsed: float, *, accuracy: bool) -> str:
    """Return the figures so far: images a second, top-1, p99, errors and retries."""
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
