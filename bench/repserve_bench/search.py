"""The highest rate that still passes: doubled until one fails, then narrowed down by halves of the ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GROWTH = 2.0


def highest_passing(
    passes: Callable[[float], bool],
    *,
    start: float,
    lowest: float = 0.0,
    precision: float = 0.05,
    most_steps: int = 16,
) -> float | None:
    """Searches for the highest value that passes, taking it that whatever is below a passing one passes too.

    Args:
        passes: Tries a value; each is tried once.
        start: The value to try first.
        lowest: Nothing below it is tried.
        precision: How close, as a share, a failing value must be above the answer.
        most_steps: Values that are tried at most; then the highest passing one so far is the answer.

    Returns:
        The highest value that passed; None when none did.
    """
    good, bad = 0.0, math.inf
    value = start
    for _ in range(most_steps):
        if passes(value):
            good = value
        else:
            bad = value
        if good and bad <= good * (1 + precision):
            break
        if math.isinf(bad):
            value = good * GROWTH
        elif not good:
            value = bad / GROWTH
            if value < lowest:
                break
        else:
            value = math.sqrt(good * bad)
    return good or None
