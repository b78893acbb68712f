"""A module of the bench that runs in a process of its own and gets its job over a socket."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Self

from repserve_bench.errors import LoadError

EXIT_TIMEOUT = 5.0


@dataclass(frozen=True)
class Failed:
    """What a process sends when it cannot do its job; it ends then."""

    message: str


class ChildProcess:
    """Runs ``python -m MODULE FD``, where FD is its end of a socket pair; leaving the context ends it.

    Args:
        module: The module to run.
        job: The first message that it gets.
    """

    def __init__(self, module: str, job: object) -> None:
        self._module, self._job = module, job

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Ctrl-C in the terminal reaches the parent only.
                process_group=0,
            )
        self.connection = Connection(ours.detach())
        self.send(self._job)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.connection.close()
        try:
            # After an error it has nothing to finish.
            self._process.wait(EXIT_TIMEOUT if kind is None else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, message: object) -> None:
        """Send a message; do nothing if the process has ended."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)

    def receive(self) -> object:
        """Return the next message.

        Raises:
            LoadError: The process failed or ended.
        """
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            status = self._process.wait(EXIT_TIMEOUT)
            raise LoadError(f"{self._module} ended unexpectedly with exit status {status}") from None
        if isinstance(message, Failed):
            raise LoadError(message.message)
        return message
