"""The time that a device, or a slow peer, takes in what stands for one."""

from __future__ import annotations

import threading


def take_time(seconds: float) -> None:
    """Be busy for so long, as a device is with a batch; never for waiting until something has happened."""
    threading.Event().wait(seconds)
