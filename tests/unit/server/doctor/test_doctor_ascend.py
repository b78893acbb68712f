"""The doctor on machines with Ascend chips: a healthy one, one without any, and one with each fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from repserve_server.doctor.ascend import check_ascend, survey_chips
from repserve_server.doctor.check import Check, Status, can_serve
from repserve_server.doctor.machine import Machine
from support.doctor_machines import (
    DRIVER,
    HANG,
    SHARED_NODES,
    TABLE_310P,
    TOOLKIT,
    USER,
    FakeCommands,
    empty_machine,
    ended,
    npu_machine,
    remove,
    write,
)
from support.npu_smi_tables import TABLE_310, TABLE_910B

PROCESS = "| 224     0                     | 77              | python3                  | 600                       |"


def examined(machine: Machine, *devices: str) -> dict[str, Check]:
    checks = check_ascend(machine, survey_chips(machine), devices or ("npu:0",))
    return {check.name: check for check in checks}


def with_environment(machine: Machine, **variables: str | None) -> Machine:
    changed = {**machine.environment, **variables}
    return replace(machine, environment={name: value for name, value in changed.items() if value is not None})


def test_a_healthy_310p_is_all_ok(tmp_path: Path) -> None:
    checks = examined(npu_machine(tmp_path))
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(
        ("CANN", "driver", "device nodes", "user group", "npu-smi", "ASCEND_RT_VISIBLE_DEVICES", "device npu:0"),
        Status.OK,
    )
    assert checks["CANN"].found.startswith(f"8.0.RC1 in {TOOLKIT}/latest; its environment is set")
    assert checks["driver"].found == f"version 23.0.3, libascend_hal.so in {DRIVER}/lib64/driver"
    assert checks["npu-smi"].found == "1 chip: 0: 310P3, health OK, 1,263 of 44,280 MB in use"
    assert checks["device npu:0"].found == "NPU 224 chip 0, 310P3, health OK, 1,263 of 44,280 MB in use"
    assert checks["user group"].found == f"user {USER} is in HwHiAiUser (1000)"


def test_an_empty_machine_has_a_problem_for_each_thing_that_is_missing(tmp_path: Path) -> None:
    checks = examined(empty_machine(tmp_path))
    assert {name for name, check in checks.items() if check.status is Status.PROBLEM} == {
        *("CANN", "driver", "device nodes", "user group", "device npu:0"),
    }
    assert checks["npu-smi"].status is Status.WARNING
    assert "install CANN's toolkit, or nnrt" in checks["CANN"].advice
    assert "install the driver" in checks["driver"].advice
    assert "--device" in checks["device nodes"].advice


Fault = Callable[[Path, Machine], Machine | None]


def take_away(*paths: str) -> Fault:
    def apply(root: Path, _: Machine) -> None:
        for path in paths:
            remove(root, path)

    return apply


def change(**variables: str | None) -> Fault:
    return lambda _, machine: with_environment(machine, **variables)


def close_nodes(root: Path, _: Machine) -> None:
    for node in ("/dev/davinci0", *SHARED_NODES):
        write(root, node, mode=0o660)


def leave_group(_: Path, machine: Machine) -> Machine:
    return replace(machine, group_ids=frozenset({USER}))


def show(table: str) -> Fault:
    return lambda _, machine: replace(machine, run=FakeCommands({"npu-smi": ended(0, table)}))


def answer(result: CompletedProcess[str] | Exception) -> Fault:
    return lambda _, machine: replace(machine, run=FakeCommands({"npu-smi": result}))


FAULTS = [
    (
        change(LD_LIBRARY_PATH=f"{DRIVER}/lib64/driver"),
        "CANN",
        Status.PROBLEM,
        "not sourced",
        f"`source {TOOLKIT}/set_env.sh`",
    ),
    (
        change(ASCEND_OPP_PATH=None),
        "CANN",
        Status.WARNING,
        "ASCEND_OPP_PATH is not set",
        f"`source {TOOLKIT}/set_env.sh`",
    ),
    (change(ASCEND_OPP_PATH="/opt/gone"), "CANN", Status.WARNING, "is /opt/gone, which does not exist", "set_env.sh"),
    (
        change(LD_LIBRARY_PATH=f"{TOOLKIT}/latest/lib64"),
        "driver",
        Status.PROBLEM,
        "version 23.0.3",
        f"{DRIVER}/lib64/driver",
    ),
    (
        take_away(f"{DRIVER}/version.info", f"{DRIVER}/lib64/driver/libascend_hal.so"),
        *("driver", Status.PROBLEM, "neither", "install the driver"),
    ),
    (take_away("/dev/davinci0"), "device nodes", Status.PROBLEM, "missing: /dev/davinci0", "--device"),
    (take_away("/dev/hisi_hdc"), "device nodes", Status.PROBLEM, "missing: /dev/hisi_hdc", "Ascend Docker Runtime"),
    (
        close_nodes,
        "device nodes",
        Status.PROBLEM,
        f"cannot be read and written by user {USER}",
        "usermod -aG HwHiAiUser",
    ),
    (leave_group, "user group", Status.WARNING, "may be used anyway", "usermod -aG HwHiAiUser $USER"),
    (take_away("/usr/local/sbin/npu-smi"), "npu-smi", Status.WARNING, "npu-smi was not found", "/usr/local/dcmi"),
    (answer(ended(1, "", "ret is -8005")), "npu-smi", Status.WARNING, "ret is -8005", "as root on the host"),
    (answer(HANG), "npu-smi", Status.PROBLEM, "the driver hangs", "restart the machine"),
    (show(TABLE_310P.replace("OK   ", "Alarm")), "device npu:0", Status.WARNING, "health Alarm", "-t health -i 224"),
    (show(TABLE_310P.replace("OK      ", "Critical")), "device npu:0", Status.PROBLEM, "health Critical", "dmesg"),
    (show(TABLE_310P + PROCESS), "device npu:0", Status.WARNING, "used by python3 (77)", "stop those processes"),
    (
        change(ASCEND_RT_VISIBLE_DEVICES="0, 1"),
        *("ASCEND_RT_VISIBLE_DEVICES", Status.WARNING, "read up to ' 1': npu:0 is device 0", "without blanks"),
    ),
    (
        change(ASCEND_RT_VISIBLE_DEVICES="4"),
        *("ASCEND_RT_VISIBLE_DEVICES", Status.PROBLEM, "no device is visible", "numbers below 1"),
    ),
    (change(ASCEND_RT_VISIBLE_DEVICES="4"), "device npu:0", Status.PROBLEM, "this process sees no NPU", "--device"),
]


@pytest.mark.parametrize(("fault", "name", "status", "found", "advice"), FAULTS)
def test_each_fault_is_found_and_says_what_to_do(
    *, tmp_path: Path, fault: Fault, name: str, status: Status, found: str, advice: str
) -> None:
    machine = npu_machine(tmp_path)
    check = examined(fault(tmp_path, machine) or machine)[name]
    assert (check.status, found in check.found, advice in check.advice) == (status, True, True), check


def test_a_user_outside_the_group_with_closed_nodes_cannot_serve(tmp_path: Path) -> None:
    machine = leave_group(tmp_path, npu_machine(tmp_path))
    close_nodes(tmp_path, machine)
    assert examined(machine)["user group"].status is Status.PROBLEM


def test_root_needs_no_group_and_may_use_every_node(tmp_path: Path) -> None:
    machine = replace(npu_machine(tmp_path), user_id=0, group_ids=frozenset({0}))
    close_nodes(tmp_path, machine)
    checks = examined(machine)
    assert {checks[name].status for name in ("user group", "device nodes")} == {Status.OK}


def test_the_group_and_the_drivers_folder_are_those_of_the_installer(tmp_path: Path) -> None:
    machine = replace(npu_machine(tmp_path), group_ids=frozenset({2000}))
    write(tmp_path, "/etc/ascend_install.info", "UserGroup=npu\nDriver_Install_Path_Param=/opt/ascend\n")
    write(tmp_path, "/etc/group", "npu:x:2000:\n")
    write(tmp_path, "/opt/ascend/driver/version.info", "Version=24.1.0\n")
    checks = examined(machine)
    assert checks["user group"].found == f"user {USER} is in npu (2000)"
    assert "version 24.1.0" in checks["driver"].found


def test_the_loaders_own_folders_count_too(tmp_path: Path) -> None:
    machine = with_environment(npu_machine(tmp_path), LD_LIBRARY_PATH=None)
    write(tmp_path, "/etc/ld.so.conf.d/ascend.conf", f"{DRIVER}/lib64/driver\n{TOOLKIT}/latest/lib64\n")
    assert can_serve(examined(machine).values())


@pytest.mark.parametrize(
    ("folder", "file", "text", "version"),
    [
        ("nnrt/latest", "aarch64-linux/ascend_nnrt_install.info", "version=7.0.0\n", "7.0.0"),
        ("cann", "x86_64-linux/ascend_toolkit_install.info", "version=8.5.0\n", "8.5.0"),
        (
            "ascend-toolkit/latest",
            "version.cfg",
            "# version: 1.0\nruntime_running_version=[7.6.0.1.220:8.0.0]\n",
            "8.0.0",
        ),
        ("nnae/latest", "version.info", "Version=6.0.1\n", "6.0.1"),
    ],
)
def test_every_package_of_cann_is_found_with_its_version(
    tmp_path: Path, folder: str, file: str, text: str, version: str
) -> None:
    machine = empty_machine(tmp_path)
    home = f"/usr/local/Ascend/{folder}"
    write(tmp_path, f"/usr/local/Ascend/{folder.partition('/')[0]}/set_env.sh")
    write(tmp_path, f"{home}/{file}", text)
    write(tmp_path, f"{home}/lib64/libascendcl.so")
    write(tmp_path, f"{home}/opp/x")
    check = examined(with_environment(machine, LD_LIBRARY_PATH=f"{home}/lib64", ASCEND_OPP_PATH=f"{home}/opp"))["CANN"]
    assert (check.status, check.found.startswith(f"{version} in {home};")) == (Status.OK, True)


def test_a_device_is_told_by_what_the_process_sees(tmp_path: Path) -> None:
    machine = with_environment(npu_machine(tmp_path, TABLE_910B), ASCEND_RT_VISIBLE_DEVICES="1")
    checks = examined(machine, "npu:0", "npu:1")
    assert checks["ASCEND_RT_VISIBLE_DEVICES"].found == "1: npu:0 is device 1"
    assert checks["device npu:0"].found.startswith("NPU 5 chip 0, 910B3, health Alarm")
    assert checks["device npu:1"].found == "not found: this process sees npu:0"


def test_in_a_container_without_npu_smi_nodes_are_counted_whatever_their_numbers(tmp_path: Path) -> None:
    machine = npu_machine(tmp_path)
    remove(tmp_path, "/usr/local/sbin/npu-smi")
    remove(tmp_path, "/dev/davinci0")
    write(tmp_path, "/dev/davinci3", mode=0o666)
    check = examined(machine)["device npu:0"]
    assert (check.status, "its health is unknown" in check.found) == (Status.OK, True)


def test_two_chips_of_a_card_are_told_apart(tmp_path: Path) -> None:
    checks = examined(npu_machine(tmp_path, TABLE_310), "npu:0", "npu:1")
    assert checks["device npu:0"].status is Status.OK
    assert checks["device npu:1"].found.startswith("NPU 4 chip 1, 310, health Warning")


@pytest.mark.parametrize("device", ["npu:", "npu:x", "npu:-1", "npu:1"])
def test_a_device_that_is_none_is_a_problem(tmp_path: Path, device: str) -> None:
    check = examined(npu_machine(tmp_path), device)[f"device {device}"]
    assert (check.status, check.found) == (Status.PROBLEM, "not found: this process sees npu:0")
