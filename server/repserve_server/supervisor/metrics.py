"""The metrics of the whole server: what frontends and workers count, summed, and what only the supervisor knows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from repserve_server.channel.model_info import ModelInfo
from repserve_server.metric_definition import DEVICE_LABELS, MetricDefinition
from repserve_server.metrics import MergedCollector, Snapshot

ROLES = ("supervisor", "frontend", "worker")
MODEL_READY = MetricDefinition(
    "repserve_model_ready",
    "gauge",
    "1 if the model version is ready, 0 if not.",
    {"model": "", "version": "", "state": ("absent", "unloaded", "loading", "ready", "restarting", "failed")},
)
MODEL_LOAD_SECONDS = MetricDefinition(
    "repserve_model_load_seconds",
    "gauge",
    "Time that the slowest ready worker took to start and to load, measure and check its model.",
    DEVICE_LABELS,
)
INSTANCE_INFO = MetricDefinition(
    "repserve_instance_info",
    "gauge",
    "Ready workers, by what they run on; simulated ones use no real device.",
    {
        **DEVICE_LABELS,
        "backend": "the runtime: acl, openvino, onnxruntime, simulated",
        "precision": "the arithmetic: f32, bf16, as compiled, none",
        "simulated": ("true", "false"),
    },
)
RESTARTS = MetricDefinition(
    "repserve_restarts",
    "counter",
    "Processes restarted after they died or hung.",
    {"role": ("frontend", "worker")},
)
HUNG_PROCESSES = MetricDefinition(
    "repserve_hung_processes",
    "counter",
    "Processes killed because they did not respond for `liveness_timeout_seconds`, or for `load_timeout_seconds` while "
    "loading a model.",
    {"role": ("frontend", "worker")},
)
PROCESS_CPU_SECONDS = MetricDefinition(
    "repserve_process_cpu_seconds", "counter", "CPU time of the server's processes.", {"role": ROLES}
)
PROCESS_MEMORY = MetricDefinition(
    "repserve_process_resident_memory_bytes",
    "gauge",
    "Resident memory of the server's processes; shared memory counts in each.",
    {"role": ROLES},
)
DEFINITIONS = (
    MODEL_READY,
    MODEL_LOAD_SECONDS,
    INSTANCE_INFO,
    RESTARTS,
    HUNG_PROCESSES,
    PROCESS_CPU_SECONDS,
    PROCESS_MEMORY,
)

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ServerMetrics:
    """One registry for /metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.children = MergedCollector()
        self.processes = ProcessCollector()
        self.restarts = RESTARTS.counter(self.registry)
        self.hung_processes = HUNG_PROCESSES.counter(self.registry)
        self.registry.register(self.children)
        self.registry.register(self.processes)
        self.models = ModelCollector()
        self.registry.register(self.models)

    def update(self, process: str, snapshot: Snapshot) -> None:
        """Take a process's newest counts."""
        self.children.update(process, snapshot)

    def forget(self, process: str, pid: int) -> None:
        """Keep the totals of a process that has ended, and drop its gauges."""
        self.children.end(process)
        self.processes.end(pid)

    def forget_version(self, model: str, version: str) -> None:
        """Drop the series of a version that is no longer served, so that they do not pile up."""
        self.children.forget({"model": model, "version": version})


class ModelCollector(Collector):
    """The state of each model and what runs it."""

    def __init__(self) -> None:
        self.infos: Sequence[ModelInfo] = ()

    def collect(self) -> Iterator[Metric]:
        """One series for each model, and one for each worker that is ready."""
        ready, loads = MODEL_READY.gauge_family(), MODEL_LOAD_SECONDS.gauge_family()
        instances = INSTANCE_INFO.gauge_family()
        slowest: dict[tuple[str, ...], float] = {}
        counts: dict[tuple[str, ...], int] = {}
        states: dict[tuple[str, ...], float] = {}
        for info in self.infos:
            # A version may be there twice, served and being loaded anew; a series may not.
            states[info.name, info.version, info.state] = float(info.ready)
            for instance in info.instances:
                simulated = str(instance.simulated).lower()
                key = (
                    info.name,
                    info.version,
                    instance.device,
                    instance.backend,
                    instance.precision,
                    simulated,
                )
                counts[key] = counts.get(key, 0) + 1
                slowest[key[:3]] = max(instance.load_seconds, slowest.get(key[:3], 0.0))
        for labels, value in states.items():
            ready.add_metric(labels, value)
        for labels, count in counts.items():
            instances.add_metric(labels, count)
        for labels, seconds in slowest.items():
            loads.add_metric(labels, seconds)
        yield ready
        yield loads
        yield instances


class ProcessCollector(Collector):
    """CPU time and memory of the server's processes by role; the CPU time of ended ones is kept."""

    def __init__(self) -> None:
        self._live: dict[int, str] = {os.getpid(): "supervisor"}
        self._seen: dict[int, float] = {}
        self._ended: dict[str, float] = {}

    def add(self, pid: int, role: str) -> None:
        """Watch a process."""
        self._live[pid] = role

    def end(self, pid: int) -> None:
        """Keep the last CPU time of a process that has ended."""
        role = self._live.pop(pid)
        self._ended[role] = self._ended.get(role, 0.0) + self._seen.pop(pid, 0.0)

    def collect(self) -> Iterator[Metric]:
        """One series a role."""
        cpu, memory = self._read()
        seconds_family, memory_family = PROCESS_CPU_SECONDS.counter_family(), PROCESS_MEMORY.gauge_family()
        for role, value in cpu.items():
            seconds_family.add_metric((role,), value)
        for role, value in memory.items():
            memory_family.add_metric((role,), value)
        yield seconds_family
        yield memory_family

    def _read(self) -> tuple[dict[str, float], dict[str, int]]:
        """CPU time and memory by role; of a process that has just ended, the CPU time it was last seen with."""
        cpu, memory = dict(self._ended), dict.fromkeys(self._live.values(), 0)
        for pid, role in self._live.items():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                # proc(5): utime and stime are fields 14 and 15, rss is 24; the first here is field 3.
                self._seen[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
                memory[role] += int(fields[21]) * _PAGE
            except OSError:
                pass
            cpu[role] = cpu.get(role, 0.0) + self._seen.get(pid, 0.0)
        return cpu, memory
