"""A child process: started fresh (never forked), spoken to over a control channel, always waited for."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from repserve_server.channel.control import ControlChannel, ControlPump
from repserve_server.channel.link import link_pair
from repserve_server.channel.message import Message
from repserve_server.process import DEVICE_FAILED

logger = logging.getLogger(__name__)

IncomingT = TypeVar("IncomingT")


class Child(Generic[IncomingT]):
    """One process. Must be started from the supervisor's main thread: a child dies with the thread that started it.

    Attributes:
        name: for logs and metrics; unique among all children that ever ran.
        exited: set when the process has ended and was waited for.
        returncode: its exit status then; negative for the number of a signal.
        killed: whether it was killed from here.
        asked_at: when it was asked for its metrics, on the loop's clock, if it has not answered since.
    """

    def __init__(
        self,
        name: str,
        role: str,
        module: str,
        incoming: TypeAdapter[IncomingT],
        *,
        on_message: Callable[[Child[IncomingT], IncomingT], None],
        on_exit: Callable[[Child[IncomingT]], None],
    ) -> None:
        self.name, self.role = name, role
        self.exited = asyncio.Event()
        self.returncode: int | None = None
        self.killed = False
        self.asked_at: float | None = None
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        ours, theirs = link_pair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # A terminal's Ctrl-C is for the supervisor, also before a child has learnt to ignore it.
                process_group=0,
            )
        self._control = ControlPump(ControlChannel(ours, incoming), lambda received: on_message(self, received.message))
        self._process_descriptor = os.pidfd_open(self._process.pid)
        self._control.start()
        self._loop.add_reader(self._process_descriptor, self._reap)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.returncode is None

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a control message; nothing happens if the process is gone, its end is noticed anyway."""
        self._control.send(message, descriptors)

    def kill(self) -> None:
        """End the process at once."""
        if self.alive:
            self.killed = True
            self._process.send_signal(signal.SIGKILL)

    def _reap(self) -> None:
        self._loop.remove_reader(self._process_descriptor)
        os.close(self._process_descriptor)
        self._control.read()
        self._control.close()
        self.returncode = self._process.wait()
        self.exited.set()
        self._on_exit(self)


def describe_exit(returncode: int | None) -> str:
    """An exit status in words."""
    if returncode is not None and returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    if returncode == DEVICE_FAILED:
        return "ended because its device failed"
    return f"exited with status {returncode}"
