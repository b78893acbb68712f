"""What the commands of ``repserve bench`` share: their console, their errors and their exit statuses."""

from __future__ import annotations

import functools
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click
from rich.console import Console

from repserve_bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells expect."""
LEAST_WIDTH = 120
"""Columns of a table that is not printed to a terminal, so that no figure is cut."""
EXPECTED = (BenchError, OSError)


def make_console() -> Console:
    """Return a console for stdout, wide enough for the tables where there is no terminal.

    Square brackets are printed as they are: messages of servers, and paths, may hold some.
    """
    console = Console(markup=False)
    return console if console.is_terminal else Console(width=max(LEAST_WIDTH, console.width), markup=False)


def measuring(command: Callable[Concatenate[Console, P], int]) -> Callable[P, None]:
    """Give a command its console and exit with the status it returns; expected errors are printed in one line."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = command(make_console(), *args, **kwargs)
        except EXPECTED as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted before anything was measured", err=True)
            status = INTERRUPTED
        sys.exit(status)

    return wrapper


def gathered(name: str, kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Pass the options that are fields of a dataclass to the command as one argument of that class."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def gather(**arguments: Any) -> None:  # noqa: ANN401 - click passes what it parsed
            given = {field.name: arguments.pop(field.name) for field in fields(kind) if field.name in arguments}
            command(**{name: kind(**given)}, **arguments)

        return gather

    return decorate
