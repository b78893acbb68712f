"""Checks of memory: how much full queues would take, and /dev/shm, which the server does not use."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from repserve_server.doctor.ascend import NPU_PREFIX
from repserve_server.doctor.check import Check, Group, Status, counted
from repserve_server.doctor.machine import Machine
from repserve_server.errors import RepositoryError
from repserve_server.repository.compiled import read_compiled
from repserve_server.repository.scan import ModelFolder
from repserve_server.settings import Settings

_FLOAT32_BYTES = 4
_CGROUPS = "/sys/fs/cgroup"
_MEGABYTE = 1_000_000
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, not written to
_check = functools.partial(Check, Group.MACHINE)


def check_memory(machine: Machine, settings: Settings, folders: list[ModelFolder]) -> list[Check]:
    """Check the memory for queued images, and /dev/shm."""
    return [_check_slots(machine, settings, folders), _check_shared_memory(machine)]


def available_memory(machine: Machine) -> int | None:
    """Return the bytes that the server could still get, by the machine and its cgroups; None where they are unknown."""
    limits = list(_cgroup_room(machine))
    found = re.search(r"^MemAvailable:\s*(\d+) kB", machine.read("/proc/meminfo"), re.MULTILINE)
    if found:
        limits.append(int(found[1]) * 1024)
    return min(limits, default=None)


def image_bytes(folder: ModelFolder, devices: tuple[str, ...]) -> int:
    """Return the most bytes of a slot: of a uint8 image, or of a normalised float32 one where an .om may take those."""
    pixels = folder.config.preprocessing.image_bytes
    if not any(device.startswith(NPU_PREFIX) for device in devices):
        return pixels
    try:
        compiled = read_compiled(folder.versions[-1].path)
    except RepositoryError:
        compiled = None
    return pixels if compiled and all(model.aipp for model in compiled.models) else pixels * _FLOAT32_BYTES


def _check_slots(machine: Machine, settings: Settings, folders: list[ModelFolder]) -> Check:
    served = [folder for folder in folders if not folder.problem]
    per_slot = sum(image_bytes(folder, settings.device) for folder in served)
    needed = settings.frontend_count * settings.max_queue_size * per_slot
    available = available_memory(machine)
    images = "an image" if len(served) == 1 else f"an image of each of {counted(len(served), 'model')}"
    share = (
        f"full queues take up to {_megabytes(needed)} ({counted(settings.frontend_count, 'frontend')}, max_queue_size "
        f"{settings.max_queue_size:,}, {per_slot:,} bytes for {images})"
    )
    if available is None:
        return _check("memory", Status.OK, f"{share}; /proc/meminfo does not show what is available")
    found = f"{_megabytes(available)} available; {share}"
    if needed > available:
        advice = "lower --max-queue-size, or raise the container's memory limit: the kernel would kill the server"
        return _check("memory", Status.WARNING, found, advice)
    return _check("memory", Status.OK, found)


def _cgroup_room(machine: Machine) -> Iterator[int]:
    """Yield what is left in each cgroup of this process that has a limit; cached files count as free."""
    line = next((line for line in machine.read("/proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    if line is None:
        return
    group = PurePosixPath(_CGROUPS, line.removeprefix("0::").lstrip("/"))
    for level in (group, *group.parents):
        limit, used = machine.read(f"{level}/memory.max").strip(), machine.read(f"{level}/memory.current").strip()
        if limit.isdigit() and used.isdigit():
            cached = re.search(r"^inactive_file (\d+)", machine.read(f"{level}/memory.stat"), re.MULTILINE)
            yield max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0))
        if str(level) == _CGROUPS:
            return


def _check_shared_memory(machine: Machine) -> Check:
    folder: Path = machine.path(_SHARED_MEMORY)
    why = "not needed: images wait in memfd areas, which it does not limit"
    if not folder.is_dir():
        return _check(_SHARED_MEMORY, Status.NOT_NEEDED, f"missing, and {why}")
    area = os.statvfs(folder)
    return _check(_SHARED_MEMORY, Status.NOT_NEEDED, f"{_megabytes(area.f_blocks * area.f_frsize)}; {why}")


def _megabytes(count: int) -> str:
    return f"{count / _MEGABYTE:,.0f} MB"
