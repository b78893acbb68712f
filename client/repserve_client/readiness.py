"""Waiting for a server to become ready: what counts as ready, and when to give up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repserve_client.errors import ClientError, DeadlineExceededError, UnavailableError
from repserve_client.results import ModelInfo
from repserve_client.retry import checked_timeout

POLL_INTERVAL = 0.2
"""Seconds between two calls."""
_CALL_TIMEOUT = 5.0


class ReadinessWait:
    """One wait for ``model``, or for any model when it is empty, bounded by ``timeout`` seconds."""

    def __init__(self, model: str, timeout: float, clock: Callable[[], float]) -> None:
        self._model = model
        self._timeout = checked_timeout(timeout)
        self._clock = clock
        self._deadline = clock() + timeout
        self._reason = "it was not called"

    def begin(self) -> float:
        """Return the seconds that the next call may take.

        Raises:
            DeadlineExceededError: When the time is over; the message says what was not ready.
        """
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise DeadlineExceededError(f"the server is not ready after {self._timeout:g} s: {self._reason}")
        return min(remaining, _CALL_TIMEOUT)

    def ready(self, models: Sequence[ModelInfo]) -> bool:
        """Return whether the wait is over, by the server's list of models."""
        candidates = [model for model in models if self._model in ("", model.name)]
        if any(model.ready for model in candidates):
            return True
        if candidates:
            self._reason = "; ".join(
                f"model {model.name} is not ready: {model.reason or 'no reason given'}" for model in candidates
            )
        else:
            self._reason = f"it has no model {self._model}" if self._model else "it has no models"
        return False

    def failed(self, error: ClientError) -> None:
        """Record that the call failed.

        Raises:
            ClientError: ``error`` itself, when waiting would not help.
        """
        if not isinstance(error, UnavailableError | DeadlineExceededError):
            raise error
        self._reason = error.message
