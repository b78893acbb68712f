"""The order of service: clients in turns, urgent images first, and no image waits for ever."""

from __future__ import annotations

import math
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from repserve_server.channel.messages import Priority
from repserve_server.worker.service_order import URGENT_IN_A_ROW, ServiceOrder
from repserve_server.worker.sources import Source, WaitingImage

HIGH, NORMAL = Priority.HIGH, Priority.NORMAL
NO_SOURCE = cast("Source", None)


def image(client: int = 0, priority: Priority = NORMAL, number: int = 0, *, alone: bool = False) -> WaitingImage:
    return WaitingImage(NO_SOURCE, number, 1, math.inf, alone, priority, client)


def of_client(client: int, count: int, priority: Priority = NORMAL) -> list[WaitingImage]:
    return [image(client, priority, number) for number in range(count)]


def served(order: ServiceOrder, batch: int) -> list[list[WaitingImage]]:
    """All images, in batches of at most so many."""
    batches = []
    while order:
        batches.append(order.take(range(min(batch, len(order)))))
    return batches


def test_a_single_client_is_served_in_the_order_of_its_arrivals() -> None:
    order, images = ServiceOrder(), of_client(1, 5)
    order.add(images)
    assert list(order) == images
    assert order.take([0, 1]) == images[:2]
    assert list(order) == images[2:]


def test_a_client_with_one_image_is_not_behind_anothers_four_hundred() -> None:
    order = ServiceOrder()
    order.add(of_client(1, 400))
    order.take(range(16))
    late = image(2)
    order.add([late])
    assert order.order.index(late) <= 1


def test_clients_that_always_have_images_waiting_get_equal_parts() -> None:
    order = ServiceOrder()
    for client, count in ((1, 300), (2, 100), (3, 100)):
        order.add(of_client(client, count))
    first = order.take(range(30))
    assert [sum(image.client == client for image in first) for client in (1, 2, 3)] == [10, 10, 10]


def test_a_client_that_was_away_has_not_saved_up_turns() -> None:
    order = ServiceOrder()
    order.add([image(2)])
    order.add(of_client(1, 100))
    order.take(range(50))
    order.add(of_client(2, 20))
    first = order.take(range(20))
    assert sum(image.client == 2 for image in first) in (10, 11)


def test_urgent_images_go_first_and_the_others_get_an_eighth() -> None:
    order = ServiceOrder()
    order.add(of_client(1, 40))
    order.add(of_client(2, 40, HIGH))
    first = order.take(range(16))
    assert [image.priority for image in first] == ([HIGH] * URGENT_IN_A_ROW + [NORMAL]) * 2


def test_the_others_get_their_eighth_of_single_runs_too() -> None:
    order = ServiceOrder()
    order.add(of_client(1, 4))
    order.add(of_client(2, 40, HIGH))
    runs = [order.take([0])[0].priority for _ in range(32)]
    assert runs == ([HIGH] * URGENT_IN_A_ROW + [NORMAL]) * 4


def test_images_that_must_run_alone_go_before_all_others() -> None:
    order = ServiceOrder()
    order.add(of_client(2, 3, HIGH))
    failed = of_client(1, 2)
    order.add_alone(failed)
    moved = image(3, alone=True)
    order.add([moved])
    assert order.first_is_alone
    assert order.order[:3] == [*failed, moved]
    assert order.take([0]) == failed[:1]
    assert len(order) == 5


def test_dropped_images_are_never_served() -> None:
    order = ServiceOrder()
    order.add(of_client(1, 4))
    order.add(of_client(2, 4, HIGH))
    order.add_alone([image(3)])
    dropped = order.drop(lambda waiting: waiting.client != 2)
    assert len(dropped) == 5
    assert [waiting.client for waiting in order] == [2] * 4
    assert not order.first_is_alone


arrivals = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(Priority), st.integers(1, 20)), min_size=1, max_size=12
)


@given(arrivals, st.integers(1, 16), st.data())
def test_everything_is_served_once_and_within_a_bound(
    steps: list[tuple[int, Priority, int]], batch: int, data: st.DataObject
) -> None:
    order = ServiceOrder()
    waiting: list[WaitingImage] = []
    done: list[WaitingImage] = []
    for client, priority, count in steps:
        new = of_client(client, count, priority)
        order.add(new)
        waiting += new
        if data.draw(st.booleans()):
            done += order.take(range(min(batch, len(order))))
        assert len(order) == len(waiting) - len(done)
    done += [image for images in served(order, batch) for image in images]
    assert sorted(map(id, done)) == sorted(map(id, waiting))
    for client in range(5):
        for priority in Priority:
            mine = [image for image in waiting if (image.client, image.priority) == (client, priority)]
            assert sorted(mine, key=done.index) == mine, "a client's images stay in order"


@given(st.integers(1, 8), st.integers(1, 16), st.integers(50, 200))
def test_a_new_client_waits_for_one_turn_of_the_others_at_most(others: int, batch: int, each: int) -> None:
    order = ServiceOrder()
    for client in range(others):
        order.add(of_client(client, each))
    order.take(range(batch))
    late = image(99)
    order.add([late])
    assert order.order.index(late) <= others
