"""The control channel: content, descriptors, a full socket, and the end of the other side."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from repserve_server.channel import control
from repserve_server.channel.control import PACKET_BYTES, ControlChannel, Received
from repserve_server.channel.link import LinkClosedError, link_pair
from repserve_server.channel.worker_messages import FROM_WORKER, FromWorker, LoadFailed

Channel = ControlChannel[FromWorker]
Pair = tuple[Channel, Channel]


def text(content: str) -> LoadFailed:
    """A message that is as long as one likes."""
    return LoadFailed(reason=content)


def received(content: str) -> Received[FromWorker]:
    return Received(text(content), [])


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = link_pair()
    channels = ControlChannel(ours, FROM_WORKER), ControlChannel(theirs, FROM_WORKER)
    yield channels
    for channel in channels:
        channel.close()


def fill(channel: Channel) -> int:
    """Send until the socket is full; how many messages were sent."""
    count = 0
    while not channel.has_backlog:
        channel.send(text("x" * 10_000))
        count += 1
    return count


def drain(sender: Channel, receiver: Channel) -> list[Received[FromWorker]]:
    messages: list[Received[FromWorker]] = []
    while True:
        message = receiver.receive()
        if message is not None:
            messages.append(message)
        elif not sender.has_backlog:
            return messages
        else:
            sender.flush()


def test_content_comes_out_as_it_went_in(pair: Pair) -> None:
    ours, theirs = pair
    ours.send(text("grün"))
    ours.send(text("second"))
    assert theirs.receive() == received("grün")
    assert theirs.receive() == received("second")
    assert theirs.receive() is None


def test_descriptors_arrive_with_their_message(pair: Pair) -> None:
    ours, theirs = pair
    read_end, write_end = os.pipe()
    ours.send(text("before"))
    ours.send(text("pipe"), [read_end, write_end])
    ours.send(text("after"))
    os.close(read_end)
    os.close(write_end)
    assert theirs.receive() == received("before")
    message = theirs.receive()
    assert message is not None
    received_read, received_write = message.descriptors
    os.write(received_write, b"through")
    assert os.read(received_read, 16) == b"through"
    assert theirs.receive() == received("after")
    os.close(received_read)
    os.close(received_write)


def test_a_full_socket_keeps_messages_for_later(pair: Pair) -> None:
    ours, theirs = pair
    fillers = fill(ours)
    ours.send(text("last"))
    messages = drain(ours, theirs)
    assert messages == [received("x" * 10_000)] * fillers + [received("last")]


def test_descriptors_of_a_message_that_had_to_wait_arrive_too(pair: Pair) -> None:
    """The fleet closes its socket ends as soon as ``send`` returns."""
    ours, theirs = pair
    fill(ours)
    read_end, write_end = os.pipe()
    ours.send(text("pipe"), [write_end])
    os.close(write_end)
    messages = drain(ours, theirs)
    (received,) = messages[-1].descriptors
    os.write(received, b"through")
    assert os.read(read_end, 16) == b"through"
    os.close(received)
    os.close(read_end)


OVERHEAD = len(b'.{"kind":"load_failed","reason":""}')


@pytest.mark.parametrize("over", [-1, 0])
def test_what_fits_into_a_packet_passes_an_empty_socket(pair: Pair, over: int) -> None:
    ours, theirs = pair
    content = "x" * (PACKET_BYTES - OVERHEAD + over)
    ours.send(text(content))
    assert not ours.has_backlog
    assert theirs.receive() == received(content)


@pytest.mark.parametrize("length", [PACKET_BYTES - OVERHEAD + 1, 3 * PACKET_BYTES, 2_000_000])
def test_a_longer_message_arrives_whole_with_its_descriptors_and_in_order(pair: Pair, length: int) -> None:
    ours, theirs = pair
    read_end, write_end = os.pipe()
    ours.send(text("before"))
    ours.send(text("x" * length), [read_end])
    ours.send(text("after"))
    before, long, after = drain(ours, theirs)
    assert (before, after) == (received("before"), received("after"))
    assert long.message == text("x" * length)
    os.write(write_end, b"through")
    assert os.read(long.descriptors[0], 16) == b"through"
    for descriptor in (read_end, write_end, *long.descriptors):
        os.close(descriptor)


def test_descriptors_of_a_message_that_never_ends_are_closed_with_the_channel(pair: Pair) -> None:
    ours, theirs = pair
    read_end, write_end = os.pipe()
    ours.send(text("x" * 2_000_000), [write_end])
    os.close(write_end)
    assert theirs.receive() is None
    ours.close()
    theirs.close()
    assert os.read(read_end, 1) == b"", "nobody holds the other end"
    os.close(read_end)


def test_a_message_beyond_all_reason_is_refused_and_leaves_nothing_behind(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(control, "MAX_CONTROL_MESSAGE", 1000)
    with pytest.raises(ValueError, match=r"LoadFailed has .* more than 1000"):
        ours.send(text("x" * 1000))
    assert theirs.receive() is None
    assert not ours.has_backlog


def test_the_end_of_the_other_side_is_told_to_sender_and_receiver(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(text("goodbye"))
    theirs.close()
    assert ours.receive() == received("goodbye")
    with pytest.raises(LinkClosedError):
        ours.receive()
    with pytest.raises(LinkClosedError):
        ours.send(text("too late"))


def test_a_blocking_channel_waits_for_its_first_message() -> None:
    ours, theirs = link_pair()
    sender = ControlChannel(ours, FROM_WORKER)
    receiver = ControlChannel(theirs, FROM_WORKER, blocking=True)
    assert theirs.getblocking()
    sender.send(text("first"))
    assert receiver.receive() == received("first")
    sender.close()
    with pytest.raises(LinkClosedError):
        receiver.receive()
    receiver.close()


def test_a_message_that_cannot_be_read_does_not_spoil_the_next(pair: Pair) -> None:
    ours, theirs = pair
    ours.socket.send(b'.{"kind": "nonsense"}')
    ours.send(text("next"))
    with pytest.raises(ValidationError):
        theirs.receive()
    assert theirs.receive() == received("next")


def test_text_may_name_a_file_that_is_not_utf8(pair: Pair) -> None:
    ours, theirs = pair
    ours.send(text("cannot read mod\udce8le.onnx"))
    assert theirs.receive() == received("cannot read mod\\udce8le.onnx")
