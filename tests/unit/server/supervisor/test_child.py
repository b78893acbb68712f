"""Starting child processes: one that cannot be watched does not stay behind."""

from __future__ import annotations

import os

import psutil
import pytest

from repserve_server.supervisor.child import ProcessLauncher
from repserve_server.supervisor.events import Event


def test_a_child_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[psutil.Process] = []

    def refuse(pid: int) -> int:
        started.append(psutil.Process(pid))
        raise OSError(24, "Too many open files")

    events: list[Event] = []
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        ProcessLauncher(events.append).launch("worker", "worker 1")
    assert not started[0].is_running()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert events == []
