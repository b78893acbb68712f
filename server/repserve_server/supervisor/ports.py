"""Ports: taken once for the whole server, and a port that somebody else has is an error that names it."""

from __future__ import annotations

import socket


class PortTakenError(Exception):
    """Another process listens on the port."""


class PortReservation:
    """A port that several frontends will share, held until ``close``."""

    def __init__(self, port: int, sockets: tuple[socket.socket, ...]) -> None:
        self.port = port
        self._sockets = sockets

    def close(self) -> None:
        """Let go of the port."""
        for held in self._sockets:
            held.close()


def reserve_port(host: str, port: int, setting: str) -> PortReservation:
    """Reserve a port.

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
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
        chosen = int(held.getsockname()[1])
        name.bind(f"\0repserve:{join_address(host, chosen)}")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        held.close()
        name.close()
        raise PortTakenError(
            f"cannot listen on {join_address(host, port)}: {error.strerror}; is another server running? "
            f"Choose another port with {setting}"
        ) from error
    return PortReservation(chosen, (held, name))


def join_address(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_host(host: str) -> str:
    """Return the address by which a client on this machine reaches a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
