"""ASCEND_RT_VISIBLE_DEVICES: which devices a process sees, and under which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VISIBLE_DEVICES = "ASCEND_RT_VISIBLE_DEVICES"


@dataclass(frozen=True)
class VisibleDevices:
    """The devices that a process sees.

    Attributes:
        devices: the devices by their own numbers; ``npu:0`` is the first of them.
        text: the variable's value; None where it is not set, and all devices are seen.
        rejected: the item at which ACL stopped reading the value; None where it read all of it.
    """

    devices: tuple[int, ...]
    text: str | None = None
    rejected: str | None = None


def visible_devices(environment: Mapping[str, str], count: int) -> VisibleDevices:
    """List the devices that a process with this environment sees on a machine that has ``count``.

    The value is a list such as ``1,2,3``: numbers below ``count``, ascending, without blanks. ACL stops at the first
    item that is none of these, and takes those before it (CANN's description of the variable).
    """
    text = environment.get(VISIBLE_DEVICES)
    if text is None:
        return VisibleDevices(tuple(range(count)))
    devices: list[int] = []
    for item in text.split(","):
        number = int(item) if item.isascii() and item.isdigit() else -1
        if not (devices[-1] if devices else -1) < number < count:
            return VisibleDevices(tuple(devices), text, item)
        devices.append(number)
    return VisibleDevices(tuple(devices), text)
