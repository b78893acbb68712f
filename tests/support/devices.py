"""The time that a device or a slow peer takes, in what stands for one."""

from __future__ import annotations

import threading


def take_time(seconds: float) -> None:
    """Let so much time pass where it is the time that is tried; never to wait until something has happened."""
    threading.Event().wait(seconds)
