"""When a failed request is worth another attempt, and how long to wait before it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from repserve_client.errors import (
    ClientError,
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
    UnavailableError,
)


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter, for requests that can be sent twice without harm.

    UNAVAILABLE is retried; RESOURCE_EXHAUSTED only if the server sent a delay, and never sooner; nothing else is.
    There is no wait for an attempt that could not start before the deadline.
    """

    initial_delay: float = 0.05
    """Upper bound in seconds of the first wait."""
    multiplier: float = 2.0
    """How much the bound grows with each further attempt."""
    max_delay: float = 2.0
    """Largest bound, in seconds."""
    max_attempts: int | None = None
    """Attempts in all, including the first; None for no limit but the deadline."""
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)
    """Source of the jitter."""

    def __post_init__(self) -> None:
        if self.initial_delay <= 0 or self.max_delay < self.initial_delay or self.multiplier < 1:
            raise ValueError(f"expected 0 < initial_delay <= max_delay and multiplier >= 1, got {self}")
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ValueError(f"max_attempts is {self.max_attempts}; expected at least 1, or None")

    def delay(self, error: ClientError, attempts: int, remaining: float) -> float | None:
        """Return the seconds to wait before the next attempt; None when there should be none.

        Args:
            error: What the latest attempt ended with.
            attempts: Attempts made so far, at least 1.
            remaining: Seconds left until the deadline.
        """
        if self.max_attempts is not None and attempts >= self.max_attempts:
            return None
        if isinstance(error, ResourceExhaustedError):
            if error.retry_after is None:
                return None
        elif not isinstance(error, UnavailableError):
            return None
        bound = self.initial_delay
        for _ in range(attempts - 1):
            bound = min(bound * self.multiplier, self.max_delay)
            if bound == self.max_delay:
                break
        delay = (error.retry_after or 0.0) + self.rng.uniform(0.0, bound)
        return delay if delay < remaining else None


class Attempts:
    """Counts the attempts of one call against its deadline."""

    def __init__(self, policy: RetryPolicy, timeout: float, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._deadline = clock() + timeout
        self._made = 0

    def begin(self) -> float:
        """Count one attempt, and return the seconds it may take.

        Raises:
            DeadlineExceededError: When no time is left.
        """
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise DeadlineExceededError("the deadline passed before the request could be sent")
        self._made += 1
        return remaining

    def delay_after(self, error: ClientError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            ClientError: ``error`` itself, when there should be no further attempt.
        """
        delay = self._policy.delay(error, self._made, self._deadline - self._clock())
        if delay is None:
            raise error
        return delay


def checked_timeout(timeout: float) -> float:
    """Check a timeout in seconds and return it.

    Raises:
        InvalidArgumentError: When it is not a positive finite number: every request has a deadline.
    """
    if not 0 < timeout < float("inf"):
        raise InvalidArgumentError(f"timeout is {timeout!r}; expected a positive number of seconds")
    return timeout
