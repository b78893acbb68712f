"""A trial: a worker of the server loads a model and measures its batch sizes, as it would for ``repserve serve``.

It is the worker itself, in a process of its own, controlled as the supervisor does it. So a model that passes can be
served, a library that crashes or hangs does no harm here, and what the vendor's libraries print goes to a file.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO

from repserve_server.ascend.commands import end_process
from repserve_server.channel.control import ControlChannel
from repserve_server.channel.link import LinkClosedError, link_pair
from repserve_server.channel.message import MetricsReport, Stop
from repserve_server.channel.worker_messages import FROM_WORKER, FromWorker, LoadFailed, LoadWorker, WorkerReady
from repserve_server.supervisor.kept_process import describe_exit

_WORKER = "repserve_server.worker.process"
_STOP_SECONDS = 5.0
_LOG_LINES = 3


@dataclass(frozen=True)
class Trial:
    """The result of a trial.

    Attributes:
        reason: why the model cannot be served; empty when it can.
        ready: the worker's report when it was ready; None when the model cannot be served.
        unloaded: whether the worker stopped on request.
        log: the last lines of its log where it failed.
    """

    reason: str = ""
    ready: WorkerReady | None = None
    unloaded: bool = True
    log: tuple[str, ...] = ()


TryModel = Callable[[LoadWorker, float], Trial]
"""Tries the model of a ``LoadWorker`` message for that many seconds."""


def try_model(load: LoadWorker, seconds: float, environment: Mapping[str, str]) -> Trial:
    """Let a worker load a model and measure it.

    Must be called from the main thread: a worker dies with the thread that started it.

    Args:
        load: the supervisor's message to a worker.
        seconds: how long loading and measuring may take.
        environment: the worker's environment variables.
    """
    ours, theirs = link_pair()
    with ours, tempfile.TemporaryFile() as log:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _WORKER, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        try:
            return _converse(ControlChannel(ours, FROM_WORKER), process, load, seconds, log)
        finally:
            end_process(process)


def _converse(
    control: ControlChannel[FromWorker],
    process: subprocess.Popen[bytes],
    load: LoadWorker,
    seconds: float,
    log: IO[bytes],
) -> Trial:
    try:
        control.send(load)
        message = _receive(control, seconds)
    except LinkClosedError:
        status = process.returncode if _ends(process) else None
        how = describe_exit(status) if status is not None else "stopped answering, and cannot be ended"
        return Trial(reason=f"its worker {how} while loading", log=_last_lines(log))
    if message is None:
        return Trial(reason=f"its worker was not ready after {seconds:.0f} s", log=_last_lines(log))
    if isinstance(message, LoadFailed):
        return Trial(reason=message.reason, log=_last_lines(log))
    with contextlib.suppress(LinkClosedError):
        control.send(Stop())
    return Trial(ready=message, unloaded=_ends(process))


def _receive(control: ControlChannel[FromWorker], seconds: float) -> WorkerReady | LoadFailed | None:
    """Receive how loading ended; None if it has not in time."""
    deadline = time.monotonic() + seconds
    while (received := control.receive()) is None or isinstance(received.message, MetricsReport):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return None
        select.select([control], [], [], remaining)
    return received.message


def _ends(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_lines(log: IO[bytes]) -> tuple[str, ...]:
    """Return the end of what the worker and its libraries printed."""
    log.seek(0)
    lines = log.read().decode("utf-8", errors="replace").splitlines()
    return tuple([line.strip() for line in lines if line.strip()][-_LOG_LINES:])
