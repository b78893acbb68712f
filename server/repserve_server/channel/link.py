"""A link: one end of a Unix socket pair between two processes of the server, never blocking."""

from __future__ import annotations

import socket
from collections import deque

from repserve_server.channel.messages import MAX_MESSAGE


class LinkClosedError(Exception):
    """The process at the other end is gone."""


class Link:
    """Messages both ways over SOCK_SEQPACKET, which keeps their borders.

    What the kernel's buffer cannot take is kept here until ``flush``; the backlog is bounded by the number of slots,
    because each slot has at most one submission, one cancellation and one answer under way.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._backlog: deque[bytes] = deque()

    def fileno(self) -> int:
        """Return the file descriptor, for a selector."""
        return self.socket.fileno()

    @property
    def has_backlog(self) -> bool:
        """Whether messages wait for the other end to read; flush when the socket is writable."""
        return bool(self._backlog)

    def send(self, message: bytes) -> None:
        """Send a message now, or keep it for ``flush``.

        Raises:
            LinkClosedError: the other end is gone.
        """
        self._backlog.append(message)
        self.flush()

    def flush(self) -> None:
        """Send what is kept, as far as the other end takes it.

        Raises:
            LinkClosedError: the other end is gone.
        """
        while self._backlog:
            try:
                self.socket.send(self._backlog[0])
            except BlockingIOError:
                return
            except OSError as error:
                raise LinkClosedError(str(error)) from error
            self._backlog.popleft()

    def receive_all(self) -> list[bytes]:
        """All messages that wait to be read, in order.

        Raises:
            LinkClosedError: nothing is left to read and the other end is gone.
        """
        messages: list[bytes] = []
        while True:
            try:
                message = self.socket.recv(MAX_MESSAGE)
            except BlockingIOError:
                return messages
            except OSError as error:
                if messages:
                    return messages
                raise LinkClosedError(str(error)) from error
            if not message:
                if messages:
                    return messages
                raise LinkClosedError("end of file")
            messages.append(message)

    def close(self) -> None:
        """Close this end."""
        self.socket.close()


def link_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, to be handed to two processes."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
