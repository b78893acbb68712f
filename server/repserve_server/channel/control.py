"""The control channel between the supervisor and a child: JSON messages that may carry file descriptors."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from repserve_server.channel.link import LinkClosedError

MAX_CONTROL_MESSAGE = 160_000
"""Bytes; below the smallest default socket buffer, so that a message always fits once the buffer is empty."""
_MAX_DESCRIPTORS = 16


@dataclass
class ControlMessage:
    """A message: its kind, its content, and the descriptors that came with it (the receiver owns them)."""

    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)


class ControlChannel:
    """One end of the control channel. Sending never blocks: what does not fit waits for ``flush``."""

    def __init__(self, end: socket.socket, *, blocking: bool = False) -> None:
        end.setblocking(blocking)
        self.socket = end
        self._backlog: deque[tuple[bytes, list[int]]] = deque()

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self.socket.fileno()

    @property
    def has_backlog(self) -> bool:
        """Whether messages wait for the other end to read."""
        return bool(self._backlog)

    def send(self, kind: str, body: dict[str, Any] | None = None, descriptors: list[int] | None = None) -> None:
        """Send a message; the descriptors are duplicated into the other process and stay the caller's here.

        Raises:
            LinkClosedError: the other end is gone.
            ValueError: the message is longer than MAX_CONTROL_MESSAGE.
        """
        payload = json.dumps({"kind": kind, "body": body or {}}, separators=(",", ":")).encode()
        if len(payload) > MAX_CONTROL_MESSAGE:
            raise ValueError(f"control message {kind!r} has {len(payload)} bytes, more than {MAX_CONTROL_MESSAGE}")
        # The caller may close its descriptors before a message that has to wait is sent.
        self._backlog.append((payload, [os.dup(descriptor) for descriptor in descriptors or ()]))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the other end takes it.

        Raises:
            LinkClosedError: the other end is gone.
        """
        while self._backlog:
            payload, descriptors = self._backlog[0]
            try:
                socket.send_fds(self.socket, [payload], descriptors)
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkClosedError(str(error)) from error
            self._backlog.popleft()
            _close(descriptors)

    def receive(self) -> ControlMessage | None:
        """The next message, or None when none waits (never None on a blocking channel).

        Raises:
            LinkClosedError: the other end is gone.
        """
        try:
            payload, descriptors, _, _ = socket.recv_fds(self.socket, MAX_CONTROL_MESSAGE, _MAX_DESCRIPTORS)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkClosedError(str(error)) from error
        if not payload:
            raise LinkClosedError("end of file")
        content = json.loads(payload)
        return ControlMessage(content["kind"], content["body"], list(descriptors))

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
        for _, descriptors in self._backlog:
            _close(descriptors)
        self._backlog.clear()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
