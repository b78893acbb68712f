"""The machine and the packages a measurement was made with."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "repserve",
    "grpcio",
    "protobuf",
    "numpy",
    "pillow",
    "openvino",
    "onnxruntime",
)
CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Counts the cores that this process may use: its affinity, cut by a cgroup quota; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = cgroup_cores(CGROUP_CPU_MAX)
    return cores if quota is None else max(1, min(cores, int(quota)))


def cgroup_cores(cpu_max: Path) -> float | None:
    """Reads the CPU quota in cores from a cgroup v2 ``cpu.max`` file; None without a quota."""
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def cpu_model() -> str:
    """Returns the CPU's name as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def describe_environment() -> dict[str, object]:
    """Returns what a reader of a report needs to judge its figures."""
    return {
        "date_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
