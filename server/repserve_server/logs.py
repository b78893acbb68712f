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
