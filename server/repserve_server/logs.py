"""Logging to standard error: one line an event, with the process it came from."""

from __future__ import annotations

import logging
import sys
import time


class _UtcFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


def configure_logging(process: str, level: str) -> None:
    """Send this process's log to standard error, each line marked with ``process``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_UtcFormatter(f"%(asctime)s %(levelname)s [{process}] %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # What changed is said by those who do something about it.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def set_log_level(level: str) -> None:
    """Log from this level on: debug, info, warning or error."""
    logging.getLogger().setLevel(level.upper())
