"""Arguments, errors, exit statuses and standard output of the offline commands."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

import click

from repserve_bench.command import INTERRUPTED
from repserve_bench.errors import BenchError
from repserve_server.errors import RepServeError
from repserve_server.process import ended_by_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
P = ParamSpec("P")
R = TypeVar("R")


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Report a command's errors in one line on standard error, with an exit status."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with ended_by_signals():
                return command(*args, **kwargs)
        except (BenchError, RepServeError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split("\n"))) from error
        except KeyboardInterrupt:
            click.echo("interrupted; every file that was written is complete", err=True)
            sys.exit(INTERRUPTED)

    return wrapper


def end_with(problems: Sequence[str]) -> NoReturn:
    """Print and count the images that could not be used, and exit: with 1 if there was one."""
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        count = "1 image was" if len(problems) == 1 else f"{len(problems)} images were"
        click.echo(f"{count} left out, see above", err=True)
    sys.exit(1 if problems else 0)


def keep_standard_output() -> None:
    """Give descriptor 1 to standard error, and Python's ``sys.stdout`` a descriptor of its own.

    This lasts to the end of the process, when C libraries print what they have buffered. Does nothing if
    ``sys.stdout`` is not the process's own.
    """
    stream = sys.__stdout__
    if stream is None or sys.stdout is not stream:
        return
    stream.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(own, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
