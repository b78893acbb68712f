"""The command ``repserve doctor``."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from repserve_server.cli import serve
from repserve_server.doctor.check import can_serve
from repserve_server.doctor.examination import examine
from repserve_server.doctor.machine import Machine
from repserve_server.doctor.report import format_report, report_body
from repserve_server.doctor.trial import try_model
from repserve_server.settings import SettingsError, load_settings


def doctor_command(config: Path | None, as_json: bool, no_load: bool, **flags: Any) -> None:  # noqa: ANN401 - serve's flags
    """Check whether serving can work on this machine, and say what to do where it cannot.

    Takes the settings of `repserve serve` from flags, environment and --config. Checks the driver, CANN, device nodes,
    permissions and chips of NPUs; the Python packages; each model of the repository, which is loaded and measured on
    each device; and CPU, memory, ports and limits. Changes nothing.

    Exit status: 0 if serving can work, perhaps with warnings; 1 if there is a problem; 2 for wrong usage.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    try:
        settings = load_settings(given, config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    machine = Machine()
    trial = None if no_load else functools.partial(try_model, environment=machine.environment)
    checks = examine(machine, settings, trial, _report_progress)
    columns = shutil.get_terminal_size().columns
    click.echo(json.dumps(report_body(checks), indent=2) if as_json else format_report(checks, columns))
    sys.exit(0 if can_serve(checks) else 1)


def _report_progress(doing: str) -> None:
    """Show at a terminal what takes long."""
    if sys.stderr.isatty():
        click.echo(click.style(f"{doing} ...", dim=True), err=True)


doctor = click.Command(
    "doctor",
    callback=doctor_command,
    help=doctor_command.__doc__,
    params=[
        click.Option(["--json", "as_json"], is_flag=True, help="Print the report as JSON."),
        click.Option(["--no-load"], is_flag=True, help="Do not load models, which may take minutes."),
        *serve.params,
    ],
)
