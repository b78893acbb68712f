"""How the offline commands end: expected errors take one line, Ctrl-C ends with 130, bad images with 1."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

import click

from repserve_bench.dataset import DatasetError
from repserve_bench.offline.errors import OfflineError
from repserve_server.errors import RepServeError
from repserve_server.process import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells expect."""


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turns what a command may raise into a line on standard error and an exit status."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with ended_by_signals():
                return command(*args, **kwargs)
        except (OfflineError, DatasetError, RepServeError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split("\n"))) from error
        except KeyboardInterrupt:
            click.echo("interrupted; every file that was written is whole", err=True)
            sys.exit(INTERRUPTED)

    return wrapper


def end_with(problems: Sequence[str]) -> NoReturn:
    """Names and counts the images that could not be used, and ends the process: with 1 if there was one."""
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        count = "1 image was" if len(problems) == 1 else f"{len(problems)} images were"
        click.echo(f"{count} left out, see above", err=True)
    sys.exit(1 if problems else 0)
