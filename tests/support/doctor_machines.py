"""Machines made of files for the doctor's tests: an empty one, and one with a healthy 310P."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from repserve_server.doctor.machine import Machine
from support import fakes

READY = fakes.READY.model_copy(
    update={"backend": "openvino", "precision": "bf16", "batch_seconds": {1: 0.0003, 16: 0.006}}
)
"""What a worker says that has loaded a model with OpenVINO."""
USER, GROUP = 4321, 1000
TOOLKIT = "/usr/local/Ascend/ascend-toolkit"
DRIVER = "/usr/local/Ascend/driver"
SHARED_NODES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
NPU_SMI = "/usr/local/sbin/npu-smi"

TABLE_310P = """\
+--------------------------------------------------------------------------------------------------------+
| npu-smi 23.0.3                                   Version: 23.0.3                                       |
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 224     310P3                 | OK              | NA           71                0     / 0             |
| 0       0                     | 0000:04:00.0    | 0            1263 / 44280                            |
+===============================+=================+======================================================+
+-------------------------------+-----------------+------------------------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)        |
+===============================+=================+======================================================+
| No running processes found in NPU 224                                                                  |
+===============================+=================+======================================================+
"""

CPU_BFLOAT16 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx512_bf16\n"


@dataclass
class FakeCommands:
    """Runs nothing, answers by a command's name; ``asked`` has what was to be run."""

    results: dict[str, subprocess.CompletedProcess[str] | Exception] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(
        self, command: Sequence[str], timeout: float, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        del timeout, environment
        self.asked.append(tuple(command))
        result = self.results[Path(command[0]).name if "npu-smi" in command[0] else command[-2]]
        if isinstance(result, Exception):
            raise result
        return result


IMPORTER = "repserve_server.ascend.packages"
"""The module that imports aclruntime, by which FakeCommands knows its command."""


def ended(status: int, output: str, errors: str = "") -> subprocess.CompletedProcess[str]:
    """How a command ended."""
    return subprocess.CompletedProcess([], status, output, errors)


NOT_INSTALLED = ended(0, '{"found": "aclruntime is not installed", "advice": "install it"}')
INSTALLED = ended(0, '{"found": "aclruntime 0.0.2, ais_bench 0.0.2", "advice": ""}')
HANG = subprocess.TimeoutExpired("command", 60)


def write(root: Path, path: str, text: str = "", mode: int = 0o644) -> None:
    """A file of the machine."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)


def remove(root: Path, path: str) -> None:
    """Take a file of the machine away."""
    (root / path.lstrip("/")).unlink()


def empty_machine(root: Path, **fields: object) -> Machine:
    """A machine with a CPU and nothing of Ascend's."""
    write(root, "/proc/cpuinfo", CPU_BFLOAT16)
    write(root, "/proc/meminfo", "MemTotal:  9000000 kB\nMemAvailable:  8000000 kB\n")
    (root / "dev" / "shm").mkdir(parents=True)
    machine = Machine(
        root=root,
        environment={"PATH": "/usr/bin"},
        user_id=USER,
        group_ids=frozenset({USER}),
        architecture="x86_64",
        python=(3, 11),
        cpus=4,
        limits={"nofile": 20000, "memlock": 8388608, "core": 0},
        run=FakeCommands({IMPORTER: NOT_INSTALLED}),
    )
    return replace(machine, **fields)  # type: ignore[arg-type]


def npu_machine(root: Path, table: str = TABLE_310P, **fields: object) -> Machine:
    """A machine with one healthy 310P, CANN sourced, and a user who may use the device nodes.

    The nodes are readable and writable for all, because a test cannot give them to another group.
    """
    write(root, f"{TOOLKIT}/set_env.sh")
    write(
        root,
        f"{TOOLKIT}/latest/x86_64-linux/ascend_toolkit_install.info",
        "package_name=Ascend-cann-toolkit\nversion=8.0.RC1\narch=x86_64\n",
    )
    write(root, f"{TOOLKIT}/latest/lib64/libascendcl.so")
    write(root, f"{TOOLKIT}/latest/opp/version.info")
    write(root, f"{DRIVER}/version.info", "Version=23.0.3\nascendhal_version=7.35.19\n")
    write(root, f"{DRIVER}/lib64/driver/libascend_hal.so")
    for node in ("/dev/davinci0", *SHARED_NODES):
        write(root, node, mode=0o666)
    write(root, "/etc/group", f"root:x:0:\nHwHiAiUser:x:{GROUP}:\n")
    write(root, NPU_SMI, mode=0o755)
    chosen: dict[str, object] = {
        "environment": {
            "PATH": "/usr/bin",
            "LD_LIBRARY_PATH": f"{TOOLKIT}/latest/lib64:{DRIVER}/lib64/driver",
            "ASCEND_HOME_PATH": f"{TOOLKIT}/latest",
            "ASCEND_OPP_PATH": f"{TOOLKIT}/latest/opp",
        },
        "group_ids": frozenset({USER, GROUP}),
        "run": FakeCommands({"npu-smi": ended(0, table), IMPORTER: INSTALLED}),
    }
    return empty_machine(root, **(chosen | fields))
