"""The port while no frontend listens: connections are held, and sent to whoever listens next."""

from __future__ import annotations

import asyncio
import socket

import pytest

from repserve_server.supervisor.port_keeper import HTTP1_FAREWELL, HTTP2_FAREWELL, PortKeeper
from repserve_server.supervisor.ports import PortReservation
from unit.server.queue_harness import run_async, settle

HOST = "127.0.0.1"


@pytest.mark.parametrize("farewell", [HTTP1_FAREWELL, HTTP2_FAREWELL])
def test_who_connects_meanwhile_is_held_and_then_sent_away(farewell: bytes) -> None:
    async def test() -> None:
        reservation = PortReservation(HOST, 0, "--port")
        keeper = PortKeeper(HOST, reservation.port, farewell)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, reservation.port)
        keeper.hold()
        connections = [await asyncio.open_connection(HOST, reservation.port) for _ in range(3)]
        for _, writer in connections:
            writer.write(b"what a client says first")
        keeper.release()
        for reader, writer in connections:
            # Whole, and then the end of the stream: not a reset, which would lose it.
            assert await asyncio.wait_for(reader.read(), 5) == farewell
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, reservation.port)
        keeper.close()
        reservation.close()

    run_async(test)


def test_it_can_hold_the_port_again_and_closes_what_it_holds() -> None:
    async def test() -> None:
        reservation = PortReservation(HOST, 0, "--port")
        keeper = PortKeeper(HOST, reservation.port, HTTP1_FAREWELL)
        for _ in range(2):
            keeper.hold()
            keeper.hold()
            assert keeper.holding
            keeper.release()
            assert not keeper.holding
        keeper.hold()
        reader, writer = await asyncio.open_connection(HOST, reservation.port)
        await settle()
        keeper.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 5)
        writer.close()
        reservation.close()

    run_async(test)


def test_the_sockets_of_a_process_that_has_ended_are_listened_on(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        reservation = PortReservation(HOST, 0, "--port")
        keeper = PortKeeper(HOST, reservation.port, HTTP1_FAREWELL)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((HOST, reservation.port))
        listener.listen()
        listener.setblocking(False)
        # Connected before anybody noticed that the process has ended.
        reader, writer = await asyncio.open_connection(HOST, reservation.port)
        keeper.inherit(listener)
        assert keeper.holding
        keeper.release()
        assert await asyncio.wait_for(reader.read(), 5) == HTTP1_FAREWELL
        writer.close()
        shut = socket.socket()
        shut.setblocking(False)
        keeper.inherit(shut)
        await settle()
        keeper.release()
        assert "cannot be listened on" in caplog.text
        keeper.close()
        reservation.close()

    run_async(test)


def test_the_farewell_of_http2_is_two_frames() -> None:
    settings, goaway = HTTP2_FAREWELL[:9], HTTP2_FAREWELL[9:]
    assert (int.from_bytes(settings[:3]), settings[3]) == (0, 4)
    assert (int.from_bytes(goaway[:3]), goaway[3]) == (len(goaway) - 9, 7)
    assert goaway[9:] == bytes(8), "no stream was looked at, and there was no error"
