"""The JSON files that the bench's commands write and read again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from repserve_bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

PREFIX = "repserve.bench."
RUN = f"{PREFIX}run"
SWEEP = f"{PREFIX}sweep"
SATURATE = f"{PREFIX}saturate"
TABLE = f"{PREFIX}table"
MLPERF = f"{PREFIX}mlperf"
KNOWN = (RUN, SWEEP, SATURATE, TABLE, MLPERF)
SCHEMA_VERSION = 2


class ReportFileError(BenchError):
    """A file is not a report of the bench; the message names it and what was expected."""


def write_json(file: Path, content: dict[str, object]) -> None:
    """Write a report as indented JSON.

    Raises:
        OSError: The file cannot be written.
    """
    file.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(file: Path, schemas: Collection[str] = KNOWN) -> dict[str, Any]:
    """Read a report that ``write_json`` wrote.

    Args:
        file: The file.
        schemas: The accepted kinds of report.

    Raises:
        ReportFileError: It is not JSON, or not a report of these kinds.
        OSError: It cannot be read.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ReportFileError(f"{file} is not JSON: {error}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found not in schemas or content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version") if isinstance(content, dict) else None
        raise ReportFileError(
            f"{file} has the schema {found!r} version {version!r}; expected {', '.join(sorted(schemas))} version "
            f"{SCHEMA_VERSION}, as 'repserve bench' writes it"
        )
    report: dict[str, Any] = content
    return report
