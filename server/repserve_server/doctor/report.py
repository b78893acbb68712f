"""The report: lines for people, JSON for programs."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click

from repserve_server.doctor.check import Check, Status, can_serve, counted

SCHEMA = "repserve.doctor"
SCHEMA_VERSION = 1
_COLOURS = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "red", Status.NOT_NEEDED: "bright_black"}
_MARKS = {Status.OK: "ok", Status.WARNING: "warning", Status.PROBLEM: "PROBLEM", Status.NOT_NEEDED: "-"}
_MARK_WIDTH = max(map(len, _MARKS.values()))
_INDENT = " " * (_MARK_WIDTH + 2)


def format_report(checks: list[Check], width: int) -> str:
    """Format all checks below the titles of their groups, and the verdict, in ``width`` columns.

    The checks of a group must be adjacent.
    """
    groups = [
        "\n".join([click.style(group, bold=True), *(_format_check(check, width) for check in members)])
        for group, members in itertools.groupby(checks, lambda check: check.group)
    ]
    return "\n\n".join([*groups, format_verdict(checks)])


def _format_check(check: Check, width: int) -> str:
    mark = click.style(f"{_MARKS[check.status]:<{_MARK_WIDTH}}", fg=_COLOURS[check.status])
    text = _wrap(f"{check.name}: {check.found}", width, _INDENT).removeprefix(_INDENT)
    advice = f"\n{_wrap(f'→ {check.advice}', width, f'{_INDENT}  ')}" if check.advice else ""
    return f"{mark}  {text}{advice}"


def _wrap(text: str, width: int, indent: str) -> str:
    """Wrap text without breaking a path or flag, so that it can be copied."""
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def format_verdict(checks: Iterable[Check]) -> str:
    """Format the last line: whether serving can work."""
    statuses = [check.status for check in checks]
    problems, warnings = statuses.count(Status.PROBLEM), statuses.count(Status.WARNING)
    counts = ", ".join(
        counted(number, noun) for number, noun in ((problems, "problem"), (warnings, "warning")) if number
    )
    verdict = "serving cannot work with these settings" if problems else "serving can work with these settings"
    return f"{verdict}{f' ({counts})' if counts else ''}"


def report_body(checks: list[Check]) -> dict[str, Any]:
    """Return the report for programs.

    ``status`` is one of ok, warning, problem, not needed; ``ok`` is whether there is no problem.
    """
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "ok": can_serve(checks),
        "checks": [asdict(check) for check in checks],
    }
