"""When each run of a session began and ended: a list that grows until somebody resets it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from standin import settings
from standin.failures import crash
from standin.journal import journal

if TYPE_CHECKING:
    from collections.abc import Sequence


class Timings:
    """Times in ms since the model was loaded, held in 32 bits: after an hour they are a quarter of a ms apart."""

    def __init__(self) -> None:
        self._zero = time.perf_counter()
        self.entries: list[float | tuple[float, float]] = []

    def add(self, begin: float, end: float) -> None:
        """Note one execution; ``begin`` and ``end`` are readings of ``perf_counter``."""
        first, last = (float(np.float32((moment - self._zero) * 1e3)) for moment in (begin, end))
        self.entries.append(last - first if settings.current().generation == "T" else (first, last))

    def reset(self) -> int:
        """Forget them."""
        journal().record("reset", list="executions", length=len(self.entries))
        self.entries.clear()
        return 0


class Summary:
    """``aclruntime.sumary``: a reference to a session's times."""

    def __init__(self, owner: object, timings: Timings) -> None:
        self._owner, self._timings = ref(owner), timings

    @property
    def exec_time_list(self) -> Sequence[float | tuple[float, float]]:
        """A copy of the list: durations in generation T, (begin, end) in A and N."""
        if self._owner() is None:
            crash("exec_time_list was read after its session had gone")
        return list(self._timings.entries)
