"""The throughput file of the guide's benchmark tool: its five lines, measured, written and read.

Format and meaning: cann-benchmark, as the guide's test/parse.py reads it. Numbers have six significant digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from repserve_bench.offline.errors import OfflineError

if TYPE_CHECKING:
    from pathlib import Path

SIMULATED = "SIMULATED"
DEVICES_PER_CARD = {"310": 4, "310P": 1}
_VALUE = re.compile(r":(.*?),")
_INTERFACE = 7
"""Position of the throughput that is quoted among the values of the file, counted from 0."""
_BATCH_SIZE = 3
"""Position of the batch size in perf_vision_batchsize_N_device_D.txt, cut at its underscores."""
_UNIT = "samples/s"
LEAST_SECONDS = 1e-9
"""Minimum time of a stage, so that a coarse clock causes no division by zero."""


@dataclass(frozen=True)
class Throughput:
    """The figures of the five lines. Rates are per second, times in milliseconds.

    Stages run side by side; a stage's rate is its images divided by the seconds from its first beginning to its last
    end, waits included.
    """

    end_to_end: float
    """Images divided by the seconds of the whole run."""
    latency: float
    """The whole run."""
    read: float
    """Images read from their files."""
    preprocess: float
    """Images turned into model inputs."""
    infer: float
    """Images through the stage around the model: batch put together, model called, scores taken."""
    interface: float
    """Images divided by the seconds spent inside the model's calls: the throughput that is quoted."""
    infer_time: float
    """Time of the stage around the model for one image, waits not included."""
    post: float
    """Batches whose scores were processed."""

    def format(self, simulated: str = "") -> str:
        """Return the content of the file.

        Args:
            simulated: The simulated device's name, for a sixth line. The format has no place for it, and readers stop
                before that line.
        """
        infer = (
            f"throughputRate: {self.infer:g}",
            f"Interface throughputRate: {self.interface:g}",
            f"moduleLatency: {self.infer_time:g}",
        )
        lines = [
            f"[e2e] throughputRate: {self.end_to_end:g}, latency: {self.latency:g}",
            f"[data read] throughputRate: {self.read:g}, moduleLatency: {1000 / self.read:g}",
            f"[preprocess] throughputRate: {self.preprocess:g}, moduleLatency: {1000 / self.preprocess:g}",
            f"[infer] {', '.join(infer)}",
            f"[post] throughputRate: {self.post:g}, moduleLatency: {1000 / self.post:g}",
        ]
        if simulated:
            lines.append(f"{SIMULATED} {simulated.replace(':', ' ')} with published times: no device was used")
        return "".join(f"{line}\n" for line in lines)


def perf_file_name(batch_size: int, device: int) -> str:
    """Return the name that the benchmark tool gives the file."""
    return f"perf_vision_batchsize_{batch_size}_device_{device}.txt"


@dataclass(frozen=True)
class QuotedThroughput:
    """What the guide takes from a throughput file."""

    batch_size: str
    fps: float
    remark: str = ""
    """The line about a simulated device; empty if there is none."""


def read_throughput(file: Path) -> QuotedThroughput:
    """Read the throughput that is quoted: the eighth value, with or without its unit.

    Raises:
        OfflineError: The file cannot be read, has no such value, or its name has no batch size.
    """
    parts = file.name.split("_")
    if len(parts) <= _BATCH_SIZE or not parts[_BATCH_SIZE].isdigit():
        raise OfflineError(f"{file}: expected a name such as {perf_file_name(16, 0)}, which gives the batch size")
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OfflineError(f"cannot read the throughput file {file}: {error}") from error
    values = _VALUE.findall(content.replace("\n", ",") + ",")
    if len(values) <= _INTERFACE:
        raise OfflineError(
            f"{file} holds {len(values)} values; expected the five lines of a benchmark's throughput file, whose "
            "eighth value is the throughput"
        )
    text = values[_INTERFACE].strip().removesuffix(_UNIT).strip()
    try:
        fps = float(text)
    except ValueError as error:
        raise OfflineError(f"{file}: the eighth value, {text!r}, is not a number of images per second") from error
    remark = next((line for line in content.splitlines() if line.startswith(SIMULATED)), "")
    return QuotedThroughput(parts[_BATCH_SIZE], fps, remark)


def guide_line(chip: str, quoted: QuotedThroughput) -> str:
    """Return the line that the guide's parse.py prints; a 310 is a card of four devices."""
    factor = DEVICES_PER_CARD.get(chip, 1)
    return f"{chip} bs{quoted.batch_size} fps:{factor * quoted.fps}"


@dataclass
class Stage:
    """One stage: how much went through it, from when to when, and how long it was busy. Times in seconds."""

    count: int = 0
    busy: float = 0.0
    began: float = float("inf")
    ended: float = float("-inf")

    def add(self, began: float, ended: float, count: int = 1) -> None:
        """Count something that passed through between two readings of the clock."""
        self.count += count
        self.busy += ended - began
        self.began = min(self.began, began)
        self.ended = max(self.ended, ended)

    @property
    def rate(self) -> float:
        """The count divided by the seconds from the first beginning to the last end."""
        return self.count / max(self.ended - self.began, LEAST_SECONDS)


@dataclass
class Stages:
    """The stages of a run."""

    read: Stage = field(default_factory=Stage)
    preprocess: Stage = field(default_factory=Stage)
    infer: Stage = field(default_factory=Stage)
    interface: Stage = field(default_factory=Stage)
    """The model's calls within ``infer``."""
    post: Stage = field(default_factory=Stage)
    """Counts batches."""

    def throughput(self, seconds: float) -> Throughput:
        """Return the figures of a finished run.

        Args:
            seconds: What the whole run took.

        Raises:
            ValueError: No image passed through.
        """
        images = self.infer.count
        if not images:
            raise ValueError("no throughput without an image")
        return Throughput(
            end_to_end=images / max(seconds, LEAST_SECONDS),
            latency=1000 * max(seconds, LEAST_SECONDS),
            read=self.read.rate,
            preprocess=self.preprocess.rate,
            infer=self.infer.rate,
            interface=images / max(self.interface.busy, LEAST_SECONDS),
            infer_time=1000 * self.infer.busy / images,
            post=self.post.rate,
        )
