"""The control channel between the supervisor and a child: JSON messages that may carry file descriptors.

On the wire a message is one packet or several: each begins with a byte that says whether the message goes on in the
next, and the first carries the descriptors.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from repserve_server.channel.link import LinkClosedError

MAX_CONTROL_MESSAGE = 64 * 1024 * 1024
"""Bytes; a bound for mistakes, far above what the counts of thousands of models take."""
PACKET_BYTES = 160_000
"""Below the smallest default socket buffer, so that a packet always fits once the buffer is empty."""
_MAX_DESCRIPTORS = 16
_GOES_ON, _LAST = b"+", b"."


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
        self._begun = bytearray()
        self._begun_descriptors: list[int] = []

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
        carried = [os.dup(descriptor) for descriptor in descriptors or ()]
        room = PACKET_BYTES - 1
        for begin in range(0, len(payload), room):
            mark = _GOES_ON if begin + room < len(payload) else _LAST
            self._backlog.append((mark + payload[begin : begin + room], carried if begin == 0 else []))
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
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self.socket, PACKET_BYTES, _MAX_DESCRIPTORS)
            except BlockingIOError:
                return None
            except OSError as error:
                raise LinkClosedError(str(error)) from error
            if not packet:
                raise LinkClosedError("end of file")
            self._begun += packet[1:]
            self._begun_descriptors += descriptors
            if packet[:1] == _LAST:
                content = json.loads(self._begun)
                message = ControlMessage(content["kind"], content["body"], self._begun_descriptors)
                self._begun, self._begun_descriptors = bytearray(), []
                return message

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
        for _, descriptors in self._backlog:
            _close(descriptors)
        self._backlog.clear()
        _close(self._begun_descriptors)
        self._begun_descriptors = []


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
