"""Slots in shared memory: offsets, mappings of the same pages, and which slots are free."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import TypeAdapter

from repserve_server.channel.slots import PAGE, FreeSlots, SlotLayout
from support.fakes import map_area, slot_layout

layouts = st.builds(
    SlotLayout,
    slots=st.integers(1, 3000),
    shape=st.sampled_from([(2, 2, 3), (3, 5, 5), (224, 224, 3), (1,)]),
    dtype=st.sampled_from(["uint8", "float32"]),
    classes=st.integers(1, 3000),
)


@given(layouts)
def test_parts_of_an_area_do_not_overlap(layout: SlotLayout) -> None:
    marks_end = 4 * layout.slots
    scores_end = layout.scores_offset + 4 * layout.slots * layout.classes
    images_end = layout.images_offset + layout.slots * layout.image_bytes
    assert marks_end <= layout.scores_offset
    assert scores_end <= layout.images_offset
    assert images_end <= layout.size
    assert all(offset % PAGE == 0 for offset in (layout.scores_offset, layout.images_offset, layout.size))


@given(layouts)
def test_a_layout_survives_its_trip_through_a_message(layout: SlotLayout) -> None:
    adapter = TypeAdapter(SlotLayout)
    assert adapter.validate_json(adapter.dump_json(layout)) == layout


def test_writing_everything_of_one_kind_changes_nothing_of_another() -> None:
    (area,) = map_area(slot_layout(5))
    area.images[:] = 255
    assert not area.running.any()
    assert not area.scores.any()
    area.scores[:] = -1.0
    area.running[:] = 2**32 - 1
    assert (area.images == 255).all()
    assert (area.scores == -1.0).all()
    assert area.images.shape == (5, 2, 2, 3)


def test_two_mappings_see_each_other() -> None:
    frontend, worker = map_area(slot_layout(4), mappings=2)
    frontend.images[2] = np.arange(12).reshape(2, 2, 3)
    assert worker.images[2].tobytes() == bytes(range(12))
    worker.scores[2] = [1.0, 2.0, 3.0, 4.0]
    worker.running[2] = 7
    assert frontend.scores[2].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert frontend.running[2] == 7
    assert not np.shares_memory(frontend.images, worker.images), "these are two mappings, not one"


def test_slots_are_given_lowest_first_all_or_none() -> None:
    free = FreeSlots(4)
    assert free.take(2) == [0, 1]
    assert free.take(3) is None
    assert len(free) == 2
    free.give_back(0)
    assert free.take(2) == [0, 2]
    assert free.take(2) is None
    assert free.take(1) == [3]
    assert free.take(0) == []


class FreeSlotsMachine(RuleBasedStateMachine):
    """Takes and gives back in any order, beside a plain set that says what must be free."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = FreeSlots(8)
        self.free = set(range(8))

    @rule(count=st.integers(0, 9))
    def take(self, count: int) -> None:
        taken = self.slots.take(count)
        if count > len(self.free):
            assert taken is None
        else:
            assert taken == sorted(self.free)[:count]
            self.free -= set(taken)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        used = sorted(set(range(8)) - self.free)
        if used:
            slot = data.draw(st.sampled_from(used))
            self.slots.give_back(slot)
            self.free.add(slot)

    @invariant()
    def as_many_are_free_as_should_be(self) -> None:
        assert len(self.slots) == len(self.free)


TestFreeSlots = FreeSlotsMachine.TestCase


@pytest.mark.parametrize(("dtype", "size"), [("uint8", 12), ("float32", 48)])
def test_bytes_of_an_image(dtype: str, size: int) -> None:
    assert SlotLayout(1, (2, 2, 3), dtype, 1).image_bytes == size
