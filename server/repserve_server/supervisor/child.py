"""A child process: started fresh (never forked), spoken to over a control channel, always waited for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from pydantic import TypeAdapter

from repserve_server.channel.control import ControlChannel, ControlPump
from repserve_server.channel.frontend_messages import FROM_FRONTEND, FromFrontend
from repserve_server.channel.link import link_pair
from repserve_server.channel.worker_messages import FROM_WORKER, FromWorker
from repserve_server.supervisor.events import Event, MessageReceived, ProcessExited

if TYPE_CHECKING:
    import socket

    from repserve_server.channel.message import Message
    from repserve_server.supervisor.kept_process import Role

FromChild = FromFrontend | FromWorker
_MODULES: dict[Role, str] = {
    "frontend": "repserve_server.frontend.process",
    "worker": "repserve_server.worker.process",
}


def _incoming(role: Role) -> TypeAdapter[FromChild]:
    return cast("TypeAdapter[FromChild]", FROM_FRONTEND if role == "frontend" else FROM_WORKER)


class ChildProcess:
    """One process; its messages and its end become events."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        descriptor: int,
        channel: ControlChannel[FromChild],
        emit: Callable[[Event], None],
    ) -> None:
        self.name = name
        self._process, self._emit = process, emit
        self._control = ControlPump(channel, lambda received: emit(MessageReceived(name, received.message)))
        self._descriptor = descriptor
        self._ended = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def watch(self) -> None:
        """Begin to emit events."""
        self._control.start()
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a control message; nothing happens if the process is gone, its end is noticed anyway."""
        self._control.send(message, descriptors)

    def kill(self) -> None:
        """End the process at once."""
        if not self._ended:
            self._process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Emit no more events, and close the channel."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._control.close()

    def _reap(self) -> None:
        self._control.read()
        self.close()
        returncode = self._process.wait()
        self._ended = True
        self._emit(ProcessExited(self.name, returncode))


class ProcessLauncher:
    """Starts frontends and workers. Used from the supervisor's main thread: a child dies with the thread it is from."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit

    def launch(self, role: Role, name: str) -> ChildProcess:
        """Start a process.

        Raises:
            OSError: the system has no room for it.
        """
        ours, theirs = link_pair()
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            process = _spawn(_MODULES[role], theirs)
            undo.callback(process.wait)
            undo.callback(process.kill)
            descriptor = os.pidfd_open(process.pid)
            child = ChildProcess(name, process, descriptor, ControlChannel(ours, _incoming(role)), self._emit)
            undo.callback(child.close)
            child.watch()
            undo.pop_all()
        return child


def _spawn(module: str, end: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(end.fileno()), str(os.getpid())],
        pass_fds=(end.fileno(),),
        stdin=subprocess.DEVNULL,
        # A terminal's Ctrl-C is for the supervisor, also before a child has learnt to ignore it.
        process_group=0,
    )
