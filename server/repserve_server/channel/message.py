"""What every control message is, and those that every child knows.

A message is JSON with its ``kind``; file descriptors travel beside it. Each direction has one union of messages, by
which the receiver decodes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer

from repserve_server.logs import LogFormat, LogLevel
from repserve_server.metrics import Family


def _escape_surrogates(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


Text = Annotated[str, PlainSerializer(_escape_surrogates)]
"""Text for people. It may name a file whose name is not UTF-8: Python has lone surrogates there, and JSON cannot."""


class Message(BaseModel):
    """What crosses a process border."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class CollectMetrics(Message):
    """Send a ``MetricsReport``; also how the supervisor knows that a child does not hang."""

    kind: Literal["collect_metrics"] = "collect_metrics"


class SetLogLevel(Message):
    """Log from this level on."""

    kind: Literal["set_log_level"] = "set_log_level"
    level: LogLevel


class Stop(Message):
    """End."""

    kind: Literal["stop"] = "stop"


class MetricsReport(Message):
    """From every child: what it has counted since it started."""

    kind: Literal["metrics_report"] = "metrics_report"
    snapshot: tuple[Family, ...]


class Identity(Message):
    """How a process names itself in the log, and how it logs."""

    process: str
    log_level: LogLevel
    log_format: LogFormat
