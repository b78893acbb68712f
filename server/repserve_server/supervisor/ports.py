"""Ports: taken once for the whole server, and a port that somebody else has is an error that names it."""

from __future__ import annotations

import socket


class PortTakenError(Exception):
    """Another process listens on the port."""


def reserve_port(host: str, port: int, setting: str) -> socket.socket:
    """Take a port that several frontends will share, and hold it for as long as the socket is open.

    SO_REUSEPORT alone would let a second server share the port without an error. So the reservation is bound without
    it, which fails if anyone has the port, and gets the option afterwards, which lets the frontends in.

    Args:
        host: address to listen on.
        port: the port; 0 takes a free one.
        setting: name of the setting, for the message.

    Raises:
        PortTakenError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reservation = socket.socket(family, socket.SOCK_STREAM)
    try:
        reservation.bind((host, port))
    except OSError as error:
        reservation.close()
        raise PortTakenError(
            f"cannot listen on {join_address(host, port)}: {error.strerror}; is another server running? "
            f"Choose another port with {setting}"
        ) from error
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return reservation


def join_address(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def client_host(host: str) -> str:
    """An address that a client on this machine can use to reach a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
