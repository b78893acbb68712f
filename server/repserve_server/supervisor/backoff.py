"""How long to wait before a child is started again."""

from __future__ import annotations

from collections.abc import Callable

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 30.0
CALM_SECONDS = 60.0
_MOST_DOUBLINGS = 16


class Backoff:
    """Doubling delays for deaths in quick succession; the first restart is immediate, as is one after a calm minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deaths = 0
        self._last = float("-inf")

    def next_delay(self) -> float:
        """Count a death and return the seconds to wait."""
        now = self._clock()
        self._deaths = 0 if now - self._last > CALM_SECONDS else self._deaths + 1
        self._last = now
        doublings = min(self._deaths - 1, _MOST_DOUBLINGS)
        return 0.0 if self._deaths == 0 else min(LONGEST_SECONDS, FIRST_SECONDS * 2**doublings)
