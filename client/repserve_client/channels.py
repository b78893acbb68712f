"""How a client connects: the options of its channels, and which channel a request takes."""

from __future__ import annotations

import threading

from repserve_client.requests import MAX_MESSAGE_BYTES

_LOOPBACK = ("127.", "localhost", "[::1]")


def checked_address(address: str) -> str:
    """Check a server's address and return it.

    Raises:
        ValueError: When it is a URL or has no port, which gRPC would take for something else.
    """
    if "//" in address.removeprefix("dns:///") or ":" not in address:
        raise ValueError(f"the server's address is {address!r}; expected host:port, such as 127.0.0.1:8001")
    return address


def channel_options(address: str) -> list[tuple[str, str | int]]:
    """Return the options of one channel, which is one HTTP/2 connection.

    Keepalive pings are more than five minutes apart: a gRPC server with default settings closes a connection with
    more frequent ones (``too_many_pings``). With pings on, Linux also closes a connection whose data stays
    unacknowledged for the keepalive timeout.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Without this, channels to one address share one connection.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.keepalive_time_ms", 360_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # gRPC's own 1 s to 120 s would keep a client away long after a server has restarted.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if address.startswith(_LOOPBACK):
        # http_proxy in the environment would otherwise apply to this machine too.
        options.append(("grpc.enable_http_proxy", 0))
    return options


class LeastInFlight:
    """Picks, among ``count`` channels, one that carries the fewest calls; in turn where several do."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"channels is {count}; expected at least 1")
        self._in_flight = [0] * count
        self._turn = 0
        self._lock = threading.Lock()

    def pick(self) -> int:
        """Return the index of the channel for the next call; `release` it when the call is over."""
        with self._lock:
            count = len(self._in_flight)
            index = min(range(count), key=lambda i: (self._in_flight[i], (i - self._turn) % count))
            self._turn = (index + 1) % count
            self._in_flight[index] += 1
        return index

    def release(self, index: int) -> None:
        """Give back an index from `pick`."""
        with self._lock:
            self._in_flight[index] -= 1
