"""Ports: taken once for the whole server, and a port that somebody else has is an error that names it."""

from __future__ import annotations

import socket


class PortTakenError(Exception):
    """Another process listens on the port."""


class PortReservation:
    """A port that several frontends will share, held until ``close``.

    SO_REUSEPORT alone would let a second server share the port without an error. So the reservation is bound without
    it, which fails if anyone listens there, and gets the option afterwards, which lets the frontends in. SO_REUSEADDR
    lets a server start where connections of the last one still linger, and would also let in a second server before
    the first one listens; a name in the kernel's abstract socket namespace, which leaves nothing behind, keeps it out.

    Args:
        host: address to listen on.
        port: the port; 0 takes a free one.
        setting: name of the setting, for the message.

    Raises:
        PortTakenError: the port is taken, or the address is not this machine's.
    """

    def __init__(self, host: str, port: int, setting: str) -> None:
        self._reservation = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reservation.bind((host, port))
            self.port = int(self._reservation.getsockname()[1])
            self._name.bind(f"\0repserve:{join_address(host, self.port)}")
            self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            self.close()
            raise PortTakenError(
                f"cannot listen on {join_address(host, port)}: {error.strerror}; is another server running? "
                f"Choose another port with {setting}"
            ) from error

    def close(self) -> None:
        """Let go of the port."""
        self._reservation.close()
        self._name.close()


def join_address(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_host(host: str) -> str:
    """An address that a client on this machine can use to reach a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
