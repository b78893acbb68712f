"""Starting child processes: one that cannot be watched does not stay behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from repserve_server.supervisor import child
from repserve_server.supervisor.child import ProcessLauncher
from repserve_server.supervisor.events import Event
from support.queue_harness import run_async


def refuse(*_: object) -> None:
    raise OSError(24, "Too many open files")


def refuse_pidfd(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "pidfd_open", refuse)


def refuse_channel(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(asyncio.get_running_loop(), "add_reader", refuse)


def refuse_end(patch: pytest.MonkeyPatch) -> None:
    """Refuse the second reader."""
    loop = asyncio.get_running_loop()
    add_reader = loop.add_reader

    def add_first(*arguments: Any) -> None:  # noqa: ANN401 - whatever it takes
        add_reader(*arguments)
        patch.setattr(loop, "add_reader", refuse)

    patch.setattr(loop, "add_reader", add_first)


@pytest.mark.parametrize("fail", [refuse_pidfd, refuse_channel, refuse_end])
def test_a_child_that_cannot_be_watched_is_ended(
    monkeypatch: pytest.MonkeyPatch, fail: Callable[[pytest.MonkeyPatch], None]
) -> None:
    started: list[psutil.Process] = []
    spawn = child._spawn

    def note(*arguments: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - whatever it takes
        process = spawn(*arguments)
        started.append(psutil.Process(process.pid))
        return process

    async def test() -> None:
        events: list[Event] = []
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
        monkeypatch.setattr(child, "_spawn", note)
        with monkeypatch.context() as patch:
            fail(patch)
            with pytest.raises(OSError, match="Too many open files"):
                ProcessLauncher(events.append).launch("worker", "worker 1")
        assert not started[0].is_running()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        assert events == []

    run_async(test)
