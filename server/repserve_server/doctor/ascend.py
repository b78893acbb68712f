"""Checks of what NPUs need below Python: CANN, the driver, device nodes and permissions, and healthy chips."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from repserve_server.ascend.installation import (
    ACL_LIBRARY,
    ASCEND_FOLDER,
    DRIVER_LIBRARY,
    driver_folder,
    driver_group,
    driver_version,
    find_cann,
    library_folder,
)
from repserve_server.ascend.npu_smi import Chip, NpuSmiError, NpuSmiHangError, NpuSmiMissingError, read_chips
from repserve_server.ascend.visible_devices import VISIBLE_DEVICES, visible_devices
from repserve_server.doctor.check import Check, Group, Status, counted
from repserve_server.doctor.machine import Machine

NPU_PREFIX = "npu:"
_SHARED_NODES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
_DEVICE_NODE = re.compile(r"davinci(\d+)")
_CONTAINER = (
    "in a container, start it with --device for each of these and of /dev/davinciN, or with Ascend Docker Runtime and "
    "ASCEND_VISIBLE_DEVICES"
)
_INSTALL_DRIVER = "install the driver and the firmware of the card, and restart the machine"
_check = functools.partial(Check, Group.ASCEND)


@dataclass(frozen=True)
class ChipSurvey:
    """The chips of the machine, or why npu-smi does not list them, and the nodes /dev/davinciN."""

    chips: tuple[Chip, ...]
    error: NpuSmiError | None
    nodes: tuple[str, ...]

    @property
    def count(self) -> int:
        """The most devices that ACL can see."""
        return len(self.chips) or len(self.nodes)


def survey_chips(machine: Machine) -> ChipSurvey:
    """Run npu-smi, and look for device nodes."""
    folder = machine.path("/dev")
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    numbers = sorted(int(found[1]) for name in names if (found := _DEVICE_NODE.fullmatch(name)))
    nodes = tuple(f"/dev/davinci{number}" for number in numbers)
    try:
        chips = read_chips(environment=machine.environment, root=machine.root, run=machine.run)
    except NpuSmiError as error:
        return ChipSurvey((), error, nodes)
    return ChipSurvey(tuple(chips), None, nodes)


def check_ascend(machine: Machine, survey: ChipSurvey, devices: tuple[str, ...]) -> list[Check]:
    """Run all checks of this group; ``devices`` are the NPUs that the server is to use."""
    return [
        _check_cann(machine),
        _check_driver(machine),
        _check_nodes(machine, survey),
        _check_group(machine, survey),
        _check_npu_smi(survey),
        _check_visible_devices(machine, survey),
        *(_check_device(machine, survey, device) for device in devices),
    ]


def _check_cann(machine: Machine) -> Check:
    installed = find_cann(machine.environment, machine.root)
    library = library_folder(ACL_LIBRARY, machine.environment, machine.root)
    described = ", ".join(f"{cann.version or 'of an unknown version'} in {cann.home}" for cann in installed)
    if not installed and library is None:
        return _check(
            "CANN",
            Status.PROBLEM,
            f"no set_env.sh in {ASCEND_FOLDER}/ascend-toolkit, cann, nnrt or nnae, nor in ASCEND_HOME_PATH",
            "install CANN's toolkit, or nnrt, which is enough to serve, for this chip",
        )
    script = next((cann.script for cann in installed if cann.script), "the set_env.sh of CANN")
    if library is None:
        return _check(
            "CANN",
            Status.PROBLEM,
            f"{described}, but no folder of LD_LIBRARY_PATH holds {ACL_LIBRARY}: set_env.sh was not sourced",
            f"run `source {script}` in the shell or service that starts the server",
        )
    operators = machine.environment.get("ASCEND_OPP_PATH", "")
    if not operators or not machine.path(operators).is_dir():
        state = f"is {operators}, which does not exist" if operators else "is not set"
        return _check(
            "CANN",
            Status.WARNING,
            f"{described or library}, but ASCEND_OPP_PATH {state}: models with some operators cannot be loaded",
            f"run `source {script}` rather than setting LD_LIBRARY_PATH alone",
        )
    return _check("CANN", Status.OK, f"{described or 'found'}; its environment is set, {ACL_LIBRARY} in {library}")


def _check_driver(machine: Machine) -> Check:
    folder, version = driver_folder(machine.root), driver_version(machine.root)
    library = library_folder(DRIVER_LIBRARY, machine.environment, machine.root)
    if not version and library is None:
        return _check(
            "driver",
            Status.PROBLEM,
            f"neither {folder}/version.info nor {DRIVER_LIBRARY} was found",
            f"{_INSTALL_DRIVER}; in a container, mount {folder}",
        )
    if library is None:
        return _check(
            "driver",
            Status.PROBLEM,
            f"version {version} in {folder}, but the loader does not find {DRIVER_LIBRARY}",
            f"add {folder}/lib64/driver and {folder}/lib64/common to LD_LIBRARY_PATH",
        )
    return _check("driver", Status.OK, f"version {version or 'unknown'}, {DRIVER_LIBRARY} in {library}")


def _check_nodes(machine: Machine, survey: ChipSurvey) -> Check:
    missing = [node for node in _SHARED_NODES if not machine.path(node).exists()]
    if not survey.nodes:
        missing.insert(0, "/dev/davinci0")
    if missing:
        return _check(
            "device nodes", Status.PROBLEM, f"missing: {', '.join(missing)}", f"{_INSTALL_DRIVER}; {_CONTAINER}"
        )
    closed = _closed_nodes(machine, survey)
    if closed:
        group = driver_group(machine.root)
        return _check(
            "device nodes",
            Status.PROBLEM,
            f"{', '.join(closed)} cannot be read and written by user {machine.user_id}",
            f"add the user to the group that owns them: `sudo usermod -aG {group} $USER`, and log in again; in a "
            "container, --group-add with that group's number",
        )
    return _check("device nodes", Status.OK, f"{', '.join((*survey.nodes, *_SHARED_NODES))} exist and may be used")


def _closed_nodes(machine: Machine, survey: ChipSurvey) -> list[str]:
    nodes = (*survey.nodes, *_SHARED_NODES)
    return [node for node in nodes if machine.path(node).exists() and not machine.may_read_and_write(node)]


def _check_group(machine: Machine, survey: ChipSurvey) -> Check:
    name = driver_group(machine.root)
    rows = (line.split(":") for line in machine.read("/etc/group").splitlines())
    number = next((int(row[2]) for row in rows if row[0] == name and len(row) > 2 and row[2].isdigit()), None)  # noqa: PLR2004
    if machine.user_id == 0:
        return _check("user group", Status.OK, "root needs no group")
    if number is not None and number in machine.group_ids:
        return _check("user group", Status.OK, f"user {machine.user_id} is in {name} ({number})")
    can_use = bool(survey.nodes) and not _closed_nodes(machine, survey)
    where = f"is not in {name} ({number})" if number is not None else f"cannot be in {name}, which does not exist"
    return _check(
        "user group",
        Status.WARNING if can_use else Status.PROBLEM,
        f"user {machine.user_id} {where}" + ("; the device nodes may be used anyway" if can_use else ""),
        f"run `sudo usermod -aG {name} $USER` and log in again; the driver's installer creates the group",
    )


def _check_npu_smi(survey: ChipSurvey) -> Check:
    if survey.error is not None:
        advice = {
            NpuSmiMissingError: "install the driver; in a container, also mount npu-smi and /usr/local/dcmi, so "
            "that chips and health can be checked",
            NpuSmiHangError: "restart the machine or reset the card; `dmesg` shows the driver's errors",
        }.get(
            type(survey.error),
            "run `npu-smi info` as root on the host: if it fails there too, install the driver again and restart the "
            "machine; in a container, mount /usr/local/dcmi and the driver's lib64",
        )
        status = Status.PROBLEM if isinstance(survey.error, NpuSmiHangError) else Status.WARNING
        return _check("npu-smi", status, str(survey.error), advice)
    chips = "; ".join(f"{chip.device}: {_describe(chip)}" for chip in survey.chips)
    return _check("npu-smi", Status.OK, f"{counted(len(survey.chips), 'chip')}: {chips}")


def _check_visible_devices(machine: Machine, survey: ChipSurvey) -> Check:
    visible = visible_devices(machine.environment, survey.count)
    if visible.text is None:
        return _check(VISIBLE_DEVICES, Status.OK, f"not set: {counted(survey.count, 'device')} visible")
    meaning = ", ".join(f"npu:{index} is device {device}" for index, device in enumerate(visible.devices)) or (
        "no device is visible"
    )
    if visible.rejected is not None:
        return _check(
            VISIBLE_DEVICES,
            Status.WARNING if visible.devices else Status.PROBLEM,
            f"{visible.text!r} is read up to {visible.rejected!r}: {meaning}",
            f"use ascending numbers below {survey.count} without blanks, such as 0,1; or unset it",
        )
    return _check(VISIBLE_DEVICES, Status.OK, f"{visible.text}: {meaning}")


def _check_device(machine: Machine, survey: ChipSurvey, name: str) -> Check:
    visible = visible_devices(machine.environment, survey.count).devices
    number = name.removeprefix(NPU_PREFIX)
    index = int(number) if number.isascii() and number.isdigit() else len(visible)
    if index >= len(visible):
        seen = ", ".join(f"npu:{index}" for index in range(len(visible))) or "no NPU"
        return _check(
            f"device {name}",
            Status.PROBLEM,
            f"not found: this process sees {seen}",
            f"choose another --device, or check {VISIBLE_DEVICES}, the device nodes and npu-smi above",
        )
    chip = next((chip for chip in survey.chips if chip.device == visible[index]), None)
    if chip is None:
        return _check(f"device {name}", Status.OK, "its device node exists; its health is unknown without npu-smi")
    name = f"device {name}"
    described = f"NPU {chip.npu} chip {chip.chip}, {_describe(chip)}"
    if chip.health != "OK":
        return _check(
            name,
            Status.PROBLEM if chip.health == "Critical" else Status.WARNING,
            described,
            f"`npu-smi info -t health -i {chip.npu}` and `dmesg` show what is wrong; reset or replace the card",
        )
    if chip.processes:
        users = ", ".join(f"{user.name or 'a process'} ({user.process_id})" for user in chip.processes)
        return _check(
            name,
            Status.WARNING,
            f"{described}; used by {users}",
            "its time and memory are shared: stop those processes, unless they are this server's",
        )
    return _check(name, Status.OK, described)


def _describe(chip: Chip) -> str:
    memory = ""
    if chip.memory_total_mb:
        memory = f", {chip.memory_used_mb:,} of {chip.memory_total_mb:,} MB in use"
    return f"{chip.name}, health {chip.health}{memory}"
