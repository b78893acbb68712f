"""The control channel between the supervisor and a child: messages that may carry file descriptors.

On the wire a message is one packet or several. The first byte of each is a mark that shows whether the message
continues in the next packet; the first packet carries the descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from pydantic import TypeAdapter

from repserve_server.channel.link import LinkClosedError
from repserve_server.channel.message import Message

MAX_CONTROL_MESSAGE = 64 * 1024 * 1024
"""Bytes; a bound for mistakes, far above what the counts of thousands of models take."""
PACKET_BYTES = 160_000
"""Below the smallest default socket buffer, so that a packet always fits once the buffer is empty."""
_MAX_DESCRIPTORS = 16
_GOES_ON, _LAST = b"+", b"."

IncomingT = TypeVar("IncomingT")


class Received(NamedTuple, Generic[IncomingT]):
    """A message and the descriptors that came with it, which the receiver owns."""

    message: IncomingT
    descriptors: list[int]


class ControlChannel(Generic[IncomingT]):
    """One end of the control channel. Sending never blocks: what does not fit waits for ``flush``.

    Args:
        end: one of the two sockets of ``link_pair``.
        incoming: the union of the messages that come from the other end.
        blocking: whether ``receive`` waits for a message.
    """

    def __init__(self, end: socket.socket, incoming: TypeAdapter[IncomingT], *, blocking: bool = False) -> None:
        end.setblocking(blocking)
        self.socket = end
        self._incoming = incoming
        self._backlog: deque[tuple[bytes, list[int]]] = deque()
        self._begun = bytearray()
        self._begun_descriptors: list[int] = []

    def fileno(self) -> int:
        """Return the file descriptor, for a selector."""
        return self.socket.fileno()

    @property
    def has_backlog(self) -> bool:
        """Whether messages wait for the other end to read."""
        return bool(self._backlog)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; the descriptors are duplicated into the other process and stay the caller's here.

        Raises:
            LinkClosedError: the other end is gone.
            ValueError: the message is longer than MAX_CONTROL_MESSAGE.
        """
        payload = message.model_dump_json().encode()
        if len(payload) > MAX_CONTROL_MESSAGE:
            name = type(message).__name__
            raise ValueError(f"the control message {name} has {len(payload)} bytes, more than {MAX_CONTROL_MESSAGE}")
        # The caller may close its descriptors before a message that has to wait is sent.
        carried = [os.dup(descriptor) for descriptor in descriptors]
        room = PACKET_BYTES - 1
        for begin in range(0, len(payload), room):
            mark = _GOES_ON if begin + room < len(payload) else _LAST
            self._backlog.append((mark + payload[begin : begin + room], carried if begin == 0 else []))
        self.flush()

    def flush(self) -> None:
        """Send the backlog, as far as the other end takes it.

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

    def receive(self) -> Received[IncomingT] | None:
        """Return the next message, or None if there is none yet (never None on a blocking channel).

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
                content, descriptors = self._begun, self._begun_descriptors
                self._begun, self._begun_descriptors = bytearray(), []
                return Received(self._incoming.validate_json(content), descriptors)

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
        for _, descriptors in self._backlog:
            _close(descriptors)
        self._backlog.clear()
        _close(self._begun_descriptors)
        self._begun_descriptors = []


class ControlPump(Generic[IncomingT]):
    """Runs a control channel on the running event loop, from ``start`` to ``close``.

    Args:
        channel: the channel, which ``close`` closes too.
        on_message: takes each message that arrives.
        on_end: called when the other end is gone.
    """

    def __init__(
        self,
        channel: ControlChannel[IncomingT],
        on_message: Callable[[Received[IncomingT]], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._channel, self._on_message, self._on_end = channel, on_message, on_end
        self._closed = False

    def start(self) -> None:
        """Begin to take messages."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self.read)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message, as soon as the other end has room; it is lost when the other end is gone."""
        if self._closed:
            return
        try:
            self._channel.send(message, descriptors)
        except LinkClosedError:
            return  # What the other end sent before is still to be read; its end is noticed there.
        if self._channel.has_backlog:
            asyncio.get_running_loop().add_writer(self._channel.fileno(), self._flush)

    def read(self) -> None:
        """Take all messages that wait."""
        try:
            while not self._closed and (received := self._channel.receive()) is not None:
                self._on_message(received)
        except LinkClosedError:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._on_end()

    def close(self) -> None:
        """Stop, and close the channel."""
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        asyncio.get_running_loop().remove_writer(self._channel.fileno())
        self._channel.close()

    def _flush(self) -> None:
        with contextlib.suppress(LinkClosedError):
            self._channel.flush()
            if self._channel.has_backlog:
                return
        asyncio.get_running_loop().remove_writer(self._channel.fileno())


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
