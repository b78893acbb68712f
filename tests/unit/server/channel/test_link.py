"""Links over real socket pairs: borders, backlog, and the end of the other side."""

from __future__ import annotations

import pytest

from repserve_server.channel.link import Link, LinkClosedError
from repserve_server.channel.messages import MAX_MESSAGE
from support.fakes import connected_links


def backlog(link: Link) -> bool:
    return link.has_backlog


def read_until_quiet(sender: Link, receiver: Link) -> list[bytes]:
    """What arrives while the sender flushes and the receiver reads, until both have nothing left."""
    received: list[bytes] = []
    while True:
        batch = receiver.receive_all()
        received += batch
        if not batch and not sender.has_backlog:
            return received
        sender.flush()


def test_messages_keep_their_borders_and_order() -> None:
    ours, theirs = connected_links()
    messages = [b"a", b"bb" * 100, bytes(range(256)) * (MAX_MESSAGE // 256), b"c"]
    for message in messages:
        ours.send(message)
    assert read_until_quiet(ours, theirs) == messages
    ours.close()
    theirs.close()


def test_both_ends_send_and_receive() -> None:
    ours, theirs = connected_links()
    ours.send(b"question")
    theirs.send(b"answer")
    assert theirs.receive_all() == [b"question"]
    assert ours.receive_all() == [b"answer"]
    assert ours.receive_all() == []
    ours.close()
    theirs.close()


def test_what_a_full_socket_does_not_take_is_kept_and_sent_later_in_order() -> None:
    ours, theirs = connected_links()
    messages: list[bytes] = []
    while not backlog(ours):
        messages.append(f"{len(messages)}".encode() * 2000)
        ours.send(messages[-1])
    messages += [f"late {i}".encode() for i in range(100)]
    for message in messages[-100:]:
        ours.send(message)
    ours.flush()
    assert backlog(ours), "nobody has read yet"
    assert read_until_quiet(ours, theirs) == messages
    assert not backlog(ours)
    ours.close()
    theirs.close()


def test_the_end_of_the_other_side_comes_after_its_last_messages() -> None:
    ours, theirs = connected_links()
    theirs.send(b"one")
    theirs.send(b"two")
    theirs.close()
    assert ours.receive_all() == [b"one", b"two"]
    with pytest.raises(LinkClosedError):
        ours.receive_all()
    with pytest.raises(LinkClosedError):
        ours.send(b"too late")
    ours.close()


def test_flushing_to_an_end_that_is_gone_says_so() -> None:
    ours, theirs = connected_links()
    while not ours.has_backlog:
        ours.send(bytes(4096))
    theirs.close()
    with pytest.raises(LinkClosedError):
        ours.flush()
    ours.close()


def test_an_end_that_vanishes_with_unread_messages_is_a_closed_link() -> None:
    """The kernel reports a reset then, not an end of file."""
    ours, theirs = connected_links()
    ours.send(b"never read")
    theirs.close()
    with pytest.raises(LinkClosedError):
        ours.receive_all()
    ours.close()
