"""How long to wait before a child is started again."""

from __future__ import annotations

from collections.abc import Callable

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 30.0
LONGEST_AFTER_KILL_SECONDS = 1.0
CALM_SECONDS = 60.0
SERVICE_SECONDS = 1.0
_MOST_DOUBLINGS = 16


class Backoff:
    """Doubling delays for deaths in quick succession of children that did no work.

    A restart is immediate for the first death, after a calm minute, and for a child that was in service for a second,
    or that somebody killed when it was in service: that is no crash loop, and its work waits.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deaths = 0
        self._last = float("-inf")

    def next_delay(self, served_seconds: float = 0.0, *, killed: bool = False) -> float:
        """Count a death and return the seconds to wait.

        Args:
            served_seconds: how long the child was in service before.
            killed: it was ended from outside, which is no sign of how the next one will do.
        """
        now = self._clock()
        in_service = served_seconds >= (0.0 if killed else SERVICE_SECONDS) and served_seconds > 0
        calm = now - self._last > CALM_SECONDS or in_service
        self._deaths = 0 if calm else self._deaths + 1
        self._last = now
        doublings = min(self._deaths - 1, _MOST_DOUBLINGS)
        longest = LONGEST_AFTER_KILL_SECONDS if killed else LONGEST_SECONDS
        return 0.0 if self._deaths == 0 else min(longest, FIRST_SECONDS * 2**doublings)
