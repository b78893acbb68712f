"""``npu-smi info``: the chips of this machine, their health, and the processes that use them.

The table's column widths differ between driver versions, so it is read by its bars and blanks. Each chip has two rows:
NPU number and name, health, power and temperature; then chip number, device number, bus, AI core load and memory. A
second table has the processes.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from repserve_server.ascend.commands import RunCommand, run_bounded
from repserve_server.ascend.installation import below

NPU_SMI_SECONDS = 10.0
_PREFIX = "Ascend"
_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
"""Where drivers install npu-smi; a user's PATH often lacks the sbin ones."""
_MEMORY = re.compile(r"(\d+)\s*/\s*(\d+)")
_UPPER = re.compile(r"\|\s*(?P<npu>\d+)\s+(?P<name>[^\s|]+)[^|]*\|\s*(?P<health>[^|]*?)\s*\|.")
# A chip may be called 310: only the bus tells such an upper row from a lower one.
_LOWER = re.compile(
    r"\|\s*(?P<chip>\d+)(?:\s+(?P<device>\d+))?\s*\|\s*(?P<bus>[^|]*:[^|]*?|N/?A|-|)\s*\|(?P<load>[^|]+)"
)
_LOWER_TITLES = re.compile(r"\|\s*Chip\b[^|]*")
_PROCESS_TITLES = re.compile(r"\|.*\bProcess id\b")
_PROCESS = re.compile(r"\|\s*(?P<npu>\d+)(?:\s+(?P<chip>\d+))?\s*\|\s*(?P<id>\d+)\s*\|\s*(?P<name>[^|]*?)\s*\|")


class NpuSmiError(Exception):
    """``npu-smi`` is not installed or does not list the chips; the message says which."""


class NpuSmiMissingError(NpuSmiError):
    """``npu-smi`` is not installed, or not mounted into this container."""


class NpuSmiHangError(NpuSmiError):
    """``npu-smi`` does not finish: the driver hangs."""


@dataclass(frozen=True)
class ChipProcess:
    """A process that uses a chip; its name is empty where it runs in another container."""

    process_id: int
    name: str


@dataclass(frozen=True)
class Chip:
    """One chip.

    Attributes:
        npu: number of the card.
        chip: number of the chip on its card.
        device: the number that ACL knows the chip by, before ASCEND_RT_VISIBLE_DEVICES.
        name: such as ``310P3``.
        health: ``OK``, ``Warning``, ``Alarm``, ``Critical`` or another word of the driver's.
        bus_id: its PCI address.
        memory_used_mb: megabytes in use; of the HBM where the chip has some. None where not shown.
        memory_total_mb: megabytes in all.
        processes: who uses it.
    """

    npu: int
    chip: int
    device: int
    name: str
    health: str
    bus_id: str
    memory_used_mb: int | None = None
    memory_total_mb: int | None = None
    processes: tuple[ChipProcess, ...] = ()


def soc_version(name: str) -> str:
    """Return the name of a chip for atc: ``310P3`` is ``Ascend310P3``."""
    return name if name.startswith(_PREFIX) else _PREFIX + name


def find_npu_smi(environment: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """Find ``npu-smi`` in PATH or where drivers install it; None without one."""
    for folder in (*environment.get("PATH", "").split(os.pathsep), *_FOLDERS):
        path = f"{folder}/npu-smi"
        if folder.startswith("/") and os.access(below(root, path), os.X_OK):
            return path
    return None


def read_chips(
    timeout: float = NPU_SMI_SECONDS,
    environment: Mapping[str, str] | None = None,
    root: Path = Path("/"),
    run: RunCommand = run_bounded,
) -> list[Chip]:
    """Read the chips of this machine.

    Args:
        timeout: seconds that npu-smi may take.
        environment: environment variables, this process's own by default.
        root: the folder that stands for ``/`` when npu-smi is looked for.
        run: runs the command.

    Raises:
        NpuSmiMissingError: npu-smi is not installed.
        NpuSmiHangError: it does not finish in time.
        NpuSmiError: it fails, or shows no chip.
    """
    variables = os.environ if environment is None else environment
    command = find_npu_smi(variables, root)
    if command is None:
        raise NpuSmiMissingError("npu-smi was not found: the driver is not installed, or npu-smi is not in PATH")
    try:
        done = run([command, "info"], timeout, variables)
    except OSError as error:
        raise NpuSmiError(f"{command} cannot be started: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise NpuSmiHangError(f"npu-smi info did not finish within {timeout:.0f} s: the driver hangs") from error
    chips = parse_npu_smi(done.stdout) if done.returncode == 0 else []
    if not chips:
        # What counts comes last: "DrvMngGetConsoleLogLevel failed" is followed by the error of the driver's library.
        lines = (done.stderr or done.stdout).strip().splitlines()
        how = "shows no chip" if done.returncode == 0 else f"failed with status {done.returncode}"
        raise NpuSmiError(f"npu-smi info {how}: {lines[-1].strip() if lines else 'no output'}")
    return chips


def parse_npu_smi(text: str) -> list[Chip]:
    """Read the output of ``npu-smi info``; lines of an unknown form are skipped."""
    chips: list[Chip] = []
    processes: dict[tuple[int, int], list[ChipProcess]] = defaultdict(list)
    upper: re.Match[str] | None = None
    has_device_column = in_processes = False
    for line in map(str.strip, text.splitlines()):
        if _PROCESS_TITLES.match(line):
            in_processes = True
        elif in_processes:
            if row := _PROCESS.match(line):
                processes[int(row["npu"]), int(row["chip"] or 0)].append(ChipProcess(int(row["id"]), row["name"]))
        elif titles := _LOWER_TITLES.match(line):
            has_device_column = "Device" in titles[0].split()
        elif upper is not None and (lower := _LOWER.match(line)):
            # Columns: memory, and on some chips HBM after it; then the first reads 0 / 0.
            used, total = (_MEMORY.findall(lower["load"]) or [(None, None)])[-1]
            chips.append(
                Chip(
                    npu=int(upper["npu"]),
                    chip=int(lower["chip"]),
                    # Tables without the column show no number of ACL's; it counts the chips in this order.
                    device=int(lower["device"] or lower["chip"]) if has_device_column else len(chips),
                    name=upper["name"],
                    health=upper["health"],
                    bus_id=lower["bus"],
                    memory_used_mb=used and int(used),
                    memory_total_mb=total and int(total),
                )
            )
            upper = None
        else:
            upper = _UPPER.match(line) or upper
    return [replace(chip, processes=tuple(processes[chip.npu, chip.chip])) for chip in chips]
