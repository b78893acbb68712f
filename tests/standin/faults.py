"""Failing on command.

The setting ``faults`` is a list with commas, each entry ``KIND`` or ``KIND:WHEN``:

========= =========================================================================================================
``load``  loading a model fails
``busy``  opening the device fails, ``[507033]``
``run``   a run fails, ``[-1]``; the next one is well again
``lost``  a run fails, and every later one of that process: a device fault that only a new process overcomes
``hang``  a run never returns and holds Python's lock
``crash`` a run ends the process with SIGSEGV
``leak``  every run leaks its input on the device; ``leak:N``: N of them fit, then memory is out (50 without N)
========= =========================================================================================================

``WHEN`` is ``N``, the Nth in all processes that share ``state``, so that it happens once even if the worker is started
again; ``N+``, the Nth and all later ones, counted in each process by itself; ``always``, which is also what a missing
one means. The four kinds that strike runs share one count. ``no-driver`` (``import aclruntime`` fails) and
``wrong-soc`` (the chip is another one) hold from the start, without a ``WHEN``.

The setting ``poison`` is a list of ``VALUE`` or ``VALUE:KIND`` with a kind that strikes runs, ``run`` if none is given:
a run with an image whose first element (red of the top left pixel, in the model's own input type) has that value is
struck. It needs no count, so it does not matter how many runs come before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from standin import settings
from standin.journal import journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from standin.settings import Settings

RUN_KINDS = ("run", "lost", "hang", "crash")
MOMENTS = {"load": "load", "busy": "open"} | dict.fromkeys(RUN_KINDS, "run")
"""When each kind can strike."""
CONDITIONS = ("no-driver", "wrong-soc")
BUFFERS = 50
"""How many leaked buffers a device holds, unless said otherwise."""
SAME_VALUE = 1e-3
"""How near a first element must be to a poison; normalised grey levels are 0.017 apart."""


@dataclass(frozen=True)
class Fault:
    """One entry of ``faults``; strikes always without a number."""

    kind: str
    number: int | None
    onwards: bool

    @property
    def shared(self) -> bool:
        """Whether the number counts over all processes."""
        return self.number is not None and not self.onwards

    def strikes(self, here: int, everywhere: int) -> bool:
        """Whether it strikes, the count of this process and that of all being these."""
        if self.number is None:
            return True
        return here >= self.number if self.onwards else everywhere == self.number


def parse(text: str) -> Iterator[Fault]:
    """The entries of the setting ``faults``; raises ValueError for one that is not understood."""
    for entry in filter(None, text.split(",")):
        kind, _, when = entry.partition(":")
        digits = when.removesuffix("+")
        if kind not in (*MOMENTS, *CONDITIONS, "leak") or (kind in CONDITIONS and when):
            raise ValueError(f"faults: {entry!r} is not understood; see standin/faults.py")
        if when in ("", "always"):
            yield Fault(kind, None, onwards=False)
        elif digits.isdecimal() and int(digits) > 0 and not (kind == "leak" and when != digits):
            yield Fault(kind, int(digits), onwards=when != digits)
        else:
            raise ValueError(f"faults: {entry!r}: WHEN is N, N+ or always, N from 1")


def parse_poison(text: str) -> Iterator[tuple[float, str]]:
    """The entries of the setting ``poison``, as (value, kind)."""
    for entry in filter(None, text.split(",")):
        value, _, kind = entry.partition(":")
        if (kind or "run") not in RUN_KINDS:
            raise ValueError(f"poison: {entry!r}: KIND is one of {', '.join(RUN_KINDS)}")
        yield float(value), kind or "run"


class Faults:
    """The faults of this process and their counts."""

    def __init__(self, chosen: Settings) -> None:
        self._faults = tuple(parse(chosen.faults))
        self._poison = tuple(parse_poison(chosen.poison))
        self._waits = chosen.armed == "later"
        self._counts = dict.fromkeys(MOMENTS.values(), 0)
        self._lost = False
        if not chosen.state and (self._waits or any(fault.shared for fault in self._faults if fault.kind in MOMENTS)):
            raise ValueError("faults with a number, and armed = 'later', need the setting 'state'")

    def has(self, condition: str) -> bool:
        """Whether a condition that holds from the start is set."""
        return any(fault.kind == condition for fault in self._faults)

    @property
    def leak_limit(self) -> int | None:
        """How many buffers may leak before the device's memory is full; None if runs do not leak."""
        if self._are_waiting():
            return None
        return next((fault.number or BUFFERS for fault in self._faults if fault.kind == "leak"), None)

    def strike(self, moment: str) -> str | None:
        """Count an ``open``, a ``load`` or a ``run``, and say which kind of fault strikes it."""
        if moment == "run" and self._lost:
            return "lost"
        chosen = [fault for fault in self._faults if MOMENTS.get(fault.kind) == moment]
        if not chosen or self._are_waiting():
            return None
        self._counts[moment] += 1
        everywhere = journal().draw(moment) if any(fault.shared for fault in chosen) else 0
        kind = next((fault.kind for fault in chosen if fault.strikes(self._counts[moment], everywhere)), None)
        self._lost = kind == "lost"
        return kind

    def _are_waiting(self) -> bool:
        self._waits = self._waits and not journal().is_armed()
        return self._waits

    def poisoned(self, images: NDArray[np.generic]) -> str | None:
        """Which kind of fault these images, [n, ...], cause by their first elements."""
        first = images.reshape(len(images), -1)[:, 0].astype(np.float64)
        kind = next((kind for value, kind in self._poison if (abs(first - value) < SAME_VALUE).any()), None)
        self._lost = self._lost or kind == "lost"
        return kind


@cache
def faults() -> Faults:
    """The faults of this process."""
    return Faults(settings.current())
