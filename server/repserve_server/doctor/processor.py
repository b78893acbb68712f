"""Checks of the CPU: its vector instructions, the precision that follows from them, and the number of CPUs."""

from __future__ import annotations

import functools

from repserve_server.doctor.check import Check, Group, Status, counted
from repserve_server.doctor.machine import Machine
from repserve_server.settings import Settings

_SHOWN = {
    "x86_64": {
        "avx2": "AVX2",
        "avx512f": "AVX-512",
        "avx512_vnni": "AVX-512 VNNI",
        "avx512_bf16": "AVX-512 BF16",
        "amx_bf16": "AMX BF16",
        "amx_int8": "AMX INT8",
    },
    "aarch64": {"asimd": "NEON", "asimddp": "dot product", "sve": "SVE", "i8mm": "I8MM", "bf16": "BF16"},
}
"""Flags of /proc/cpuinfo, and their common names."""
_BFLOAT16 = (frozenset({"avx512_bf16"}), frozenset({"avx_ne_convert", "avx_vnni_int8"}))
"""The flags with any of which OpenVINO reports bfloat16 arithmetic (its CPU plugin asks oneDNN for avx512_core_bf16 or
avx2_vnni_2); never on aarch64."""
_check = functools.partial(Check, Group.MACHINE)


def cpu_flags(machine: Machine) -> frozenset[str]:
    """Return the instruction sets of the CPU, by the kernel's names; empty where they are unknown."""
    for line in machine.read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def check_processor(machine: Machine, settings: Settings) -> list[Check]:
    """Check the features and the number of the CPUs."""
    return [_check_features(machine, settings), _check_count(machine, settings)]


def _check_features(machine: Machine, settings: Settings) -> Check:
    name, flags = "CPU features", cpu_flags(machine)
    if not flags:
        return _check(name, Status.OK, f"{machine.architecture}; /proc/cpuinfo does not list its instruction sets")
    shown = _SHOWN.get(machine.architecture, {})
    features = ", ".join(title for flag, title in shown.items() if flag in flags) or "no relevant vector instructions"
    found = f"{machine.architecture} with {features}"
    if "cpu" not in settings.device:
        return _check(name, Status.OK, found)
    runtime = settings.runtime if settings.runtime != "auto" else "openvino"
    bfloat16 = machine.architecture == "x86_64" and runtime == "openvino" and any(sets <= flags for sets in _BFLOAT16)
    if settings.precision == "bf16" and not bfloat16 and runtime in ("openvino", "onnxruntime"):
        found = f"{found}: {runtime} has no bfloat16 arithmetic here, and precision = bf16"
        return _check(name, Status.PROBLEM, found, "set --precision auto or f32")
    chosen = ("bf16" if bfloat16 else "f32") if settings.precision == "auto" else settings.precision
    found = f"{found}; precision {settings.precision}{f' is {chosen}' if chosen != settings.precision else ''}"
    if machine.architecture == "x86_64" and "avx2" not in flags:
        return _check(name, Status.WARNING, found, "use a CPU with AVX2, on which models run several times faster")
    return _check(name, Status.OK, found)


def _check_count(machine: Machine, settings: Settings) -> Check:
    frontends, decoders = settings.frontend_count, settings.decode_thread_count
    found = (
        f"{machine.cpus} usable (affinity, cgroup quota); {counted(frontends, 'frontend')} with "
        f"{counted(decoders, 'decoding thread')}{'' if frontends == 1 else ' each'}"
    )
    if frontends * decoders > 2 * machine.cpus:
        advice = "lower --frontends and --decode-threads: more threads than CPUs only compete"
        return _check("CPUs", Status.WARNING, found, advice)
    return _check("CPUs", Status.OK, found)
