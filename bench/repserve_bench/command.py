"""What the commands of ``repserve bench`` share: their console, their errors and their exit statuses."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console

from repserve_bench.dataset import DatasetError
from repserve_bench.load import LoadError
from repserve_bench.metrics import MetricsError
from repserve_bench.predictions import PredictionsError
from repserve_bench.report_file import ReportFileError
from repserve_bench.server_process import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as shells expect."""
LEAST_WIDTH = 120
"""Columns of a table that is not printed to a terminal, so that no figure is cut."""
EXPECTED = (DatasetError, LoadError, MetricsError, PredictionsError, ReportFileError, ServerError, OSError)


def make_console() -> Console:
    """Returns a console for stdout, wide enough for the tables where there is no terminal.

    Square brackets are printed as they are: messages of servers, and paths, may hold some.
    """
    console = Console(markup=False)
    return console if console.is_terminal else Console(width=max(LEAST_WIDTH, console.width), markup=False)


def exit_with(measure: Callable[[Console], int]) -> None:
    """Runs a measurement and ends the process with its status; expected errors take one line."""
    try:
        status = measure(make_console())
    except EXPECTED as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted before anything was measured", err=True)
        status = INTERRUPTED
    sys.exit(status)
