"""What a test may set about the stand-in: environment variables, read when the package is imported."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

PREFIX = "STANDIN_"
GENERATIONS = ("T", "A", "N")


@dataclass(frozen=True)
class Settings:
    """Each field is the environment variable ``STANDIN_`` + its name in capitals.

    Attributes:
        generation: ``T`` (Ascend/tools, 2023), ``A`` (ait, 2024) or ``N`` (the community's 0.0.3, 2026). They all call
            themselves 0.0.2 or 0.0.3 and differ in names and behaviour.
        devices: how many devices there are.
        soc_version: the chip. A model that was compiled for another one does not load.
        state: a folder for ``events.jsonl``, where every process writes what it did, and for the counts that processes
            share. Without it nothing is written.
        faults: what is to fail and when; see ``standin.faults``.
        poison: first pixels that make a run fail; see ``standin.faults``.
        armed: ``at once``, or ``later``: faults are not counted, and none strikes, before a test calls ``arm(state)``.
            A worker's warm-up takes as many runs as it finds time for, so what is counted has to begin after it.
        batch_seconds: what a run takes at least, such as ``1:0.0005,16:0.0018``. The time that the ONNX leaves of it is
            spent holding Python's lock, as the real packages do. Sizes in between take that of the next larger one.
        ends: ``really``: what ends or freezes the process does so; ``as errors``: it raises ``ProcessEnded`` instead.
    """

    generation: str = "A"
    devices: str = "1"
    soc_version: str = "Ascend310P3"
    state: str = ""
    faults: str = ""
    poison: str = ""
    armed: str = "at once"
    batch_seconds: str = ""
    ends: str = "really"

    def __post_init__(self) -> None:
        if self.generation not in GENERATIONS:
            raise ValueError(f"generation = {self.generation!r}: one of {', '.join(GENERATIONS)}")
        if self.armed not in ("at once", "later"):
            raise ValueError(f"armed = {self.armed!r}: 'at once' or 'later'")
        if self.ends not in ("really", "as errors"):
            raise ValueError(f"ends = {self.ends!r}: 'really' or 'as errors'")
        if not self.devices.isdecimal():
            raise ValueError(f"devices = {self.devices!r}: a number")
        self.seconds_of(1)

    @property
    def state_folder(self) -> Path | None:
        """The folder that processes share, if there is one."""
        return Path(self.state) if self.state else None

    def seconds_of(self, batch_size: int) -> float:
        """What a run of that size takes at least."""
        table = sorted(
            (int(size), float(seconds))
            for size, seconds in (entry.split(":") for entry in self.batch_seconds.split(",") if entry)
        )
        if not table:
            return 0.0
        return next((seconds for size, seconds in table if size >= batch_size), table[-1][1])


@cache
def current() -> Settings:
    """The settings of this process."""
    found = {field.name: os.environ.get(PREFIX + field.name.upper()) for field in fields(Settings)}
    return Settings(**{name: value for name, value in found.items() if value is not None})
