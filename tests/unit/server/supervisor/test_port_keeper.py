"""The port while no frontend listens: connections are held, and sent to whoever listens next."""

from __future__ import annotations

import asyncio
import socket

import pytest

from repserve_server.supervisor.port_keeper import (
    HTTP1_FAREWELL,
    HTTP2_FAREWELL,
    HTTP2_GREETING,
    PortKeeper,
    has_call,
)
from repserve_server.supervisor.ports import PortReservation
from support.queue_harness import run_async, settle

HOST = "127.0.0.1"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000006 04 00 00000000 000400000000")
CALL = bytes.fromhex("000001 01 04 00000001 82")


@pytest.mark.parametrize(
    ("farewell", "greeting", "said"),
    [
        (HTTP1_FAREWELL, b"", b"what a client says first"),
        (HTTP2_FAREWELL, HTTP2_GREETING, PREFACE + SETTINGS + CALL),
        (HTTP2_FAREWELL, HTTP2_GREETING, PREFACE + SETTINGS),
    ],
)
def test_who_connects_meanwhile_is_held_and_then_sent_away(farewell: bytes, greeting: bytes, said: bytes) -> None:
    async def test() -> None:
        reservation = PortReservation(HOST, 0, "--port")
        keeper = PortKeeper(HOST, reservation.port, farewell, greeting)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, reservation.port)
        keeper.hold()
        connections = [await asyncio.open_connection(HOST, reservation.port) for _ in range(3)]
        for _, writer in connections:
            writer.write(said)
        keeper.release()
        for reader, writer in connections:
            # Whole, and then the end of the stream: not a reset, which would lose it.
            assert await asyncio.wait_for(reader.read(), 5) == greeting + farewell
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


def test_the_greeting_and_the_farewell_of_http2_are_a_frame_each() -> None:
    assert (int.from_bytes(HTTP2_GREETING[:3]), HTTP2_GREETING[3]) == (0, 4)
    assert len(HTTP2_GREETING) == 9
    assert (int.from_bytes(HTTP2_FAREWELL[:3]), HTTP2_FAREWELL[3]) == (len(HTTP2_FAREWELL) - 9, 7)
    assert HTTP2_FAREWELL[9:] == bytes(8), "no stream was looked at, and there was no error"


def test_a_call_is_found_behind_other_frames_and_not_in_them() -> None:
    assert has_call(PREFACE + SETTINGS + CALL)
    assert not has_call(PREFACE + SETTINGS)
    assert not has_call(PREFACE + bytes.fromhex("000003 04 00 00000000 010101"))
    assert not has_call((PREFACE + SETTINGS + CALL)[:40])
    assert not has_call(b"")
