"""How many images a command has done: a live bar on a terminal, a line every two seconds elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from repserve_bench.progress import LINE_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


class ImageProgress(Protocol):
    """Shows a growing count of images."""

    def __enter__(self) -> Self:
        """Starts to show."""

    def __exit__(self, *_: object) -> None:
        """Leaves the terminal as it was."""

    def advance(self, images: int) -> None:
        """Counts images that were just done."""


def show_images(console: Console, what: str, total: int) -> ImageProgress:
    """Returns a live bar where the console is a terminal, else something that prints lines.

    Args:
        console: Where to show it.
        what: What is being done, such as ``preprocess``.
        total: Images to do.
    """
    return ImageBar(console, what, total) if console.is_terminal else ImageLines(console, what, total)


class ImageBar:
    """A bar that is redrawn in place and gone afterwards."""

    def __init__(self, console: Console, what: str, total: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("images"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, images: int) -> None:
        """See ``ImageProgress.advance``."""
        self._bar.advance(self._task, images)


class ImageLines:
    """A line every two seconds, for logs and pipes."""

    def __init__(self, console: Console, what: str, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._what, self._total, self._clock = console, what, total, clock
        self._done = 0

    def __enter__(self) -> Self:
        self._started = self._clock()
        self._next = self._started + LINE_INTERVAL
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def advance(self, images: int) -> None:
        """See ``ImageProgress.advance``."""
        self._done += images
        now = self._clock()
        if now < self._next:
            return
        self._next = now + LINE_INTERVAL
        rate = self._done / (now - self._started)
        self._console.print(
            f"{self._what}: {self._done}/{self._total} images, {rate:.1f} a second", highlight=False, soft_wrap=True
        )
