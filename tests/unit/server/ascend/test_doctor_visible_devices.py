"""ASCEND_RT_VISIBLE_DEVICES: reading stops at the first bad item, as ACL does it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.ascend.visible_devices import VISIBLE_DEVICES, VisibleDevices, visible_devices


def test_without_the_variable_all_devices_are_seen() -> None:
    assert visible_devices({}, 3) == VisibleDevices((0, 1, 2))


@pytest.mark.parametrize(
    ("text", "devices", "rejected"),
    [
        ("1,2,3", (1, 2, 3), None),
        ("0", (0,), None),
        ("3,1", (3,), "1"),
        ("1,1,2", (1,), "1"),
        ("1, 2", (1,), " 2"),
        ("0,4", (0,), "4"),
        ("x,0", (), "x"),
        ("", (), ""),
        ("0,", (0,), ""),
        ("-1,0", (), "-1"),
        ("1,\u0662", (1,), "\u0662"),
    ],
)
def test_items_count_up_to_the_first_bad_one(text: str, devices: tuple[int, ...], rejected: str | None) -> None:
    assert visible_devices({VISIBLE_DEVICES: text}, 4) == VisibleDevices(devices, text, rejected)


@given(st.text("0123456789, -x", max_size=12), st.integers(0, 12))
def test_what_is_seen_is_ascending_and_there(text: str, count: int) -> None:
    seen = visible_devices({VISIBLE_DEVICES: text}, count)
    assert list(seen.devices) == sorted(set(seen.devices))
    assert all(device < count for device in seen.devices)
    assert (seen.rejected is None) == (len(seen.devices) == text.count(",") + 1)
