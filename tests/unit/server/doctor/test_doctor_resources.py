"""CPU, memory and limits: what a machine has against what the settings ask for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from repserve_server.doctor.check import Check, Status
from repserve_server.doctor.limits import check_limits
from repserve_server.doctor.machine import UNLIMITED, Machine
from repserve_server.doctor.memory import available_memory, check_memory
from repserve_server.doctor.processor import check_processor
from repserve_server.repository.compiled import CompiledFolder, CompiledModel, write_compiled
from repserve_server.repository.scan import ModelFolder, VersionFolder
from repserve_server.settings import Settings
from support.doctor_machines import GROUP, USER, empty_machine, write

KILOBYTE = 1024
PIXELS = 224 * 224 * 3


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return empty_machine(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "cpuinfo", "precision"),
    [
        ("x86_64", "flags : avx2 avx512f avx512_bf16", "bf16"),
        ("x86_64", "flags : avx2 avx_ne_convert avx_vnni_int8", "bf16"),
        ("x86_64", "flags : avx2 avx512f", "f32"),
        ("x86_64", "flags : avx2 avx_ne_convert", "f32"),
        ("aarch64", "Features : asimd asimddp bf16 i8mm", "f32"),
    ],
)
def test_the_precision_of_auto_follows_from_the_cpu(
    machine: Machine, architecture: str, cpuinfo: str, precision: str
) -> None:
    write(machine.root, "/proc/cpuinfo", f"processor : 0\n{cpuinfo}\n")
    check = check_processor(replace(machine, architecture=architecture), Settings())[0]
    assert (check.status, check.found.endswith(f"precision auto is {precision}")) == (Status.OK, True)


def test_instruction_sets_are_called_by_their_names(machine: Machine) -> None:
    check = check_processor(machine, Settings(device=("npu:0",)))[0]
    assert check.found == "x86_64 with AVX2, AVX-512, AVX-512 VNNI, AVX-512 BF16"


@pytest.mark.parametrize("runtime", ["auto", "onnxruntime"])
def test_bf16_without_the_arithmetic_is_a_problem(machine: Machine, runtime: str) -> None:
    if runtime == "auto":
        write(machine.root, "/proc/cpuinfo", "flags : avx2 avx512f\n")
    check = check_processor(machine, Settings(precision="bf16", runtime=runtime))[0]
    assert (check.status, "--precision auto or f32" in check.advice) == (Status.PROBLEM, True)


def test_a_cpu_without_avx2_is_slow(machine: Machine) -> None:
    write(machine.root, "/proc/cpuinfo", "flags : sse4_2\n")
    assert check_processor(machine, Settings())[0].status is Status.WARNING


def test_a_kernel_that_does_not_tell_the_cpu_is_no_problem(machine: Machine) -> None:
    (machine.root / "proc" / "cpuinfo").unlink()
    assert check_processor(machine, Settings())[0].status is Status.OK


def test_cpus_are_told_with_what_runs_on_them(machine: Machine) -> None:
    check = check_processor(machine, Settings(frontends=2, decode_threads=3))[1]
    assert (check.status, check.found) == (
        Status.OK,
        "4 usable (affinity, cgroup quota); 2 frontends with 3 decoding threads each",
    )
    assert check_processor(machine, Settings(frontends=3, decode_threads=3))[1].status is Status.WARNING


def slots(machine: Machine, settings: Settings, *folders: ModelFolder) -> Check:
    return check_memory(machine, settings, list(folders))[0]


def test_full_queues_are_held_against_the_memory_there_is(machine: Machine, tmp_path: Path) -> None:
    folder = ModelFolder("m", tmp_path / "m", versions=(VersionFolder(1, tmp_path / "m" / "1"),))
    check = slots(machine, Settings(frontends=1), folder)
    taken = f"(1 frontend, max_queue_size 512, {PIXELS:,} bytes for an image)"
    assert (check.status, check.found) == (Status.OK, f"8,192 MB available; full queues take up to 77 MB {taken}")
    check = slots(machine, Settings(frontends=64, max_queue_size=65536), folder)
    assert (check.status, "lower --max-queue-size" in check.advice) == (Status.WARNING, True)


@pytest.mark.parametrize(("aipp", "size"), [(True, PIXELS), (False, 4 * PIXELS), (None, 4 * PIXELS)])
def test_images_of_a_compiled_model_without_aipp_may_be_four_times_as_large(
    machine: Machine, tmp_path: Path, aipp: bool | None, size: int
) -> None:
    folder = ModelFolder("m", tmp_path / "m", versions=(VersionFolder(1, tmp_path / "m" / "1"),))
    (folder.path / "1").mkdir(parents=True)
    if aipp is not None:
        model = CompiledModel(file="a.om", batch_sizes=(1,), aipp=aipp, sha256="0" * 64)
        compiled = CompiledFolder(
            soc_version="Ascend310P3", precision="fp16", source="x", source_sha256="0" * 64, models=(model,)
        )
        write_compiled(folder.path / "1", compiled)
    found = slots(machine, Settings(device=("npu:0",)), folder, ModelFolder("n", tmp_path, problem="none")).found
    assert f"{size:,} bytes for an image)" in found


def test_a_cgroup_limits_memory_and_cached_files_can_be_given_up(machine: Machine) -> None:
    write(machine.root, "/proc/self/cgroup", "0::/pod/server\n")
    write(machine.root, "/sys/fs/cgroup/pod/server/memory.max", "max\n")
    write(machine.root, "/sys/fs/cgroup/pod/memory.max", "1000000\n")
    write(machine.root, "/sys/fs/cgroup/pod/memory.current", "900000\n")
    write(machine.root, "/sys/fs/cgroup/pod/memory.stat", "anon 5\ninactive_file 50000\n")
    assert available_memory(machine) == 150_000


def test_memory_that_nothing_tells_is_not_judged(machine: Machine) -> None:
    assert available_memory(machine) == 8_000_000 * KILOBYTE
    (machine.root / "proc" / "meminfo").unlink()
    assert available_memory(machine) is None
    assert slots(machine, Settings()).status is Status.OK


def test_shared_memory_is_not_needed(machine: Machine) -> None:
    there = check_memory(machine, Settings(), [])[1]
    (machine.root / "dev" / "shm").rmdir()
    gone = check_memory(machine, Settings(), [])[1]
    assert {there.status, gone.status} == {Status.NOT_NEEDED}
    assert "memfd" in there.found
    assert gone.found.startswith("missing")


@pytest.mark.parametrize(
    ("limit", "status", "found"),
    [
        (UNLIMITED, Status.OK, "unlimited"),
        (20000, Status.OK, "20,000 a process: room for 19,936 connections"),
        (256, Status.WARNING, "256 a process: room for 192 connections"),
        (64, Status.PROBLEM, "64 a process, too few for a frontend alone"),
    ],
)
def test_open_files_bound_the_connections(machine: Machine, limit: int, status: Status, found: str) -> None:
    machine = replace(machine, limits={**machine.limits, "nofile": limit})
    check = check_limits(machine, Settings(frontends=1))[0]
    assert (check.status, check.found) == (status, found)
    assert status is Status.OK or "LimitNOFILE" in check.advice


def test_every_frontend_has_descriptors_of_its_own(machine: Machine) -> None:
    assert check_limits(machine, Settings(frontends=3))[0].found.endswith("connections to each of 3 frontends")


def test_locked_memory_and_core_dumps_are_told(machine: Machine) -> None:
    _, locked, core = check_limits(machine, Settings())
    assert (locked.status, locked.found) == (Status.OK, "8.4 MB; the server locks none")
    assert core.found.startswith("off")
    machine = replace(machine, limits={**machine.limits, "core": UNLIMITED})
    assert check_limits(machine, Settings())[2].found == "up to unlimited for each crash"


@pytest.mark.parametrize(
    ("user", "groups", "mode", "allowed"),
    [
        ("owner", (), 0o600, True),
        ("owner", (), 0o466, False),
        ("other", ("files",), 0o060, True),
        ("other", ("files",), 0o646, False),
        ("other", (), 0o006, True),
        ("other", (), 0o664, False),
        ("root", (), 0o000, True),
    ],
)
def test_permission_is_that_of_owner_group_or_others(
    machine: Machine, user: str, groups: tuple[str, ...], mode: int, allowed: bool
) -> None:
    write(machine.root, "/dev/davinci0", mode=mode)
    node = machine.path("/dev/davinci0")
    if os.geteuid() == 0:  # whoever owns the file must not be root
        os.chown(node, USER, GROUP)
    status = node.stat()
    users = {"owner": status.st_uid, "other": status.st_uid + 1, "root": 0}
    member_of = frozenset({status.st_gid if groups else status.st_gid + 1})
    assert replace(machine, user_id=users[user], group_ids=member_of).may_read_and_write("/dev/davinci0") is allowed


def test_a_file_that_is_not_there_may_not_be_used(machine: Machine) -> None:
    assert not machine.may_read_and_write("/dev/davinci9")
