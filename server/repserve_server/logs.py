"""Logging to standard error: one line per event, with its process, as text or as JSON."""

from __future__ import annotations

import json
import logging
import re
import sys
import textwrap
import time
from typing import Any, Literal

from typing_extensions import override

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
EXTRA = ("request_id", "trace_id", "method", "code")
"""Fields that are added to the line of a failed request."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class _TextFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s [{process}] %(message)s")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        # Names come from clients, too; a line break in one must not begin a line of the log.
        extra = "".join(f" {name}={getattr(record, name)}" for name in EXTRA if hasattr(record, name))
        record.message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], record.message + extra)
        return super().formatMessage(record)

    @override
    def formatException(self, ei: Any) -> str:
        return textwrap.indent(super().formatException(ei), "  ")


class _JsonFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    @override
    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, object] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "process": self._process,
            "message": record.getMessage(),
        }
        content |= {name: getattr(record, name) for name in EXTRA if hasattr(record, name)}
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


def configure_logging(process: str, level: LogLevel, form: LogFormat = "text") -> None:
    """Send this process's log to standard error, each line marked with ``process``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter(process) if form == "json" else _TextFormatter(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Changes are logged where they are handled.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def set_log_level(level: LogLevel) -> None:
    """Log from this level on: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())
