"""Keeps a port open while no frontend listens on it: between the death of the last one and its successor's start."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

logger = logging.getLogger(__name__)

MOST_HELD = 1024
"""Connections that are held at once; more are closed."""
FAREWELL_SECONDS = 2.0
"""How long a client may take to close its end."""

ASKING_SECONDS = 0.5
"""How long a client may take, once it was greeted, to send the call for which it connected."""
HTTP2_GREETING = bytes.fromhex("000000 04 00 00000000")
"""An empty SETTINGS frame (RFC 9113, section 6.5)."""
HTTP2_FAREWELL = bytes.fromhex("000008 07 00 00000000 00000000 00000000")
"""GOAWAY, last stream 0, no error (section 6.8): none of the calls was looked at, and a gRPC client sends them again on
a new connection by itself.

It must not come with the greeting. Some clients that read both before their connection counted as ready made no new one
until the call's time was over: 4 of about 100 on a busy machine, and none of 150 since (grpcio 1.85, measured).
"""
_PREFACE_BYTES, _FRAME_HEAD_BYTES, _HEADERS = 24, 9, 1
HTTP1_FAREWELL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class PortKeeper:
    """Listens in the frontends' place and holds whoever connects, until a frontend listens again.

    The kernel spreads connections over all sockets that listen on the port, so it must stop once a frontend does.

    Args:
        host: address of the port, which this process has reserved.
        port: the port.
        farewell: what a held connection is sent before it is closed.
        greeting: of HTTP/2, what it is sent before that, to hear what the client wants.
    """

    def __init__(self, host: str, port: int, farewell: bytes, greeting: bytes = b"") -> None:
        self.port = port
        self._host, self._farewell, self._greeting = host, farewell, greeting
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._held: list[socket.socket] = []
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def holding(self) -> bool:
        """Whether it listens now."""
        return bool(self._listeners)

    def inherit(self, listener: socket.socket) -> None:
        """Listen on a socket whose process has ended: it goes on listening, and no connection to it is refused."""
        self._listeners.append(listener)
        self._loop.add_reader(listener, self._accept, listener)

    def hold(self) -> None:
        """Listen from now on, if it does not."""
        if self._listeners:
            return
        listener = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.setblocking(False)
            listener.bind((self._host, self.port))
            listener.listen(MOST_HELD)
        except OSError as error:
            listener.close()
            logger.warning("port %d cannot be kept open until a frontend is back: %s", self.port, error)
            return
        self.inherit(listener)

    def release(self) -> None:
        """Stop listening, and send those who were held to whoever listens now."""
        if not self._listeners:
            return
        for listener in self._listeners:
            self._accept(listener)
        self._stop_listening()
        held, self._held = self._held, []
        if held:
            logger.info("%d connections were held until a frontend was back", len(held))
        for connection in held:
            task = self._loop.create_task(self._say_farewell(connection))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def close(self) -> None:
        """Stop listening and close what is held."""
        self._stop_listening()
        for connection in self._held:
            connection.close()
        self._held = []
        for task in self._leaving:
            task.cancel()

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners = []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:
                # Shut down by its process before it ended, or out of descriptors.
                logger.warning("a socket of port %d cannot be listened on: %s", self.port, error)
                self._loop.remove_reader(listener)
                return
            connection.setblocking(False)
            if len(self._held) < MOST_HELD:
                self._held.append(connection)
            else:
                connection.close()

    async def _say_farewell(self, connection: socket.socket) -> None:
        """Say it, and read what the client has sent: closed with data unread, a connection is reset instead."""
        try:
            async with asyncio.timeout(ASKING_SECONDS + FAREWELL_SECONDS):
                if self._greeting:
                    await self._loop.sock_sendall(connection, self._greeting)
                    await self._wait_for_call(connection)
                await self._loop.sock_sendall(connection, self._farewell)
                connection.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(connection, 65536):
                    pass
        except (OSError, TimeoutError):
            pass
        finally:
            connection.close()

    async def _wait_for_call(self, connection: socket.socket) -> None:
        received = bytearray()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASKING_SECONDS):
                while not has_call(received) and (data := await self._loop.sock_recv(connection, 65536)):
                    received += data


def has_call(received: bytes | bytearray) -> bool:
    """Whether what an HTTP/2 client has sent so far begins a call, by its frames' heads (RFC 9113, section 4.1)."""
    place = _PREFACE_BYTES
    while place + _FRAME_HEAD_BYTES <= len(received):
        if received[place + 3] == _HEADERS:
            return True
        place += _FRAME_HEAD_BYTES + int.from_bytes(received[place : place + 3])
    return False
