"""Ports: a reserved one is shared by those who ask for it, and nobody else gets it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from repserve_server.supervisor.ports import PortReservation, PortTakenError, client_host, join_address, reserve_port

HOST = "127.0.0.1"


def shared_socket(port: int) -> socket.socket:
    """A listener as each frontend's gRPC library makes it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((HOST, port))
    listener.listen()
    return listener


@contextmanager
def reserved(port: int = 0, host: str = HOST) -> Iterator[PortReservation]:
    reservation = reserve_port(host, port, "--grpc-port")
    try:
        yield reservation
    finally:
        reservation.close()


def test_a_taken_port_is_named_with_its_flag() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        message = rf"127\.0\.0\.1:{port}: .*Choose another port with --grpc-port"
        with pytest.raises(PortTakenError, match=message), reserved(port):
            pass


def test_several_frontends_share_a_reserved_port_and_a_second_server_does_not() -> None:
    with ExitStack() as sockets:
        port = sockets.enter_context(reserved()).port
        for _ in range(2):
            sockets.enter_context(shared_socket(port))
        with pytest.raises(PortTakenError):
            sockets.enter_context(reserved(port))
        with socket.create_connection((HOST, port), timeout=5):
            pass


def test_listening_frontends_alone_keep_a_second_server_out() -> None:
    with reserved() as reservation:
        port = reservation.port
        listener = shared_socket(port)
    with listener, pytest.raises(PortTakenError), reserved(port):
        pass


def test_a_reservation_alone_keeps_a_second_server_out() -> None:
    with reserved() as reservation, pytest.raises(PortTakenError, match="--grpc-port"), reserved(reservation.port):
        pass


def test_a_port_is_free_again_after_the_reservation() -> None:
    with reserved() as reservation:
        port = reservation.port
    with reserved(port) as again:
        assert again.port == port


def test_a_server_can_be_started_again_at_once() -> None:
    """A draining server closes its connections first, so their remains (TIME_WAIT) are on its side."""
    with reserved() as reservation:
        port = reservation.port
        with shared_socket(port) as listener, socket.create_connection((HOST, port), timeout=5) as client:
            accepted, _ = listener.accept()
            accepted.close()
            assert client.recv(1) == b""
    with reserved(port) as again:
        assert again.port == port


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(PortTakenError, match=r"192\.0\.2\.1:0"):
        reserve_port("192.0.2.1", 0, "--grpc-port")


@pytest.mark.parametrize(
    ("host", "joined", "client"),
    [
        ("127.0.0.1", "127.0.0.1:80", "127.0.0.1"),
        ("::", "[::]:80", "::1"),
        ("0.0.0.0", "0.0.0.0:80", "127.0.0.1"),  # noqa: S104 - compared, not bound
    ],
)
def test_addresses_as_clients_write_them(host: str, joined: str, client: str) -> None:
    assert join_address(host, 80) == joined
    assert client_host(host) == client
