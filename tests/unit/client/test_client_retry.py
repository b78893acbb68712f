from __future__ import annotations

import random

import pytest

from repserve_client.errors import (
    ClientError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from repserve_client.retry import Attempts, RetryPolicy, checked_timeout


class TopOfTheRange(random.Random):
    """Draws the largest jitter there is."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002
        return b


def test_the_bound_doubles_up_to_its_maximum() -> None:
    policy = RetryPolicy(initial_delay=0.1, max_delay=0.5, rng=TopOfTheRange())
    delays = [policy.delay(UnavailableError("no"), attempts, remaining=60.0) for attempts in range(1, 6)]
    assert delays == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert policy.delay(UnavailableError("no"), 10**6, remaining=60.0) == 0.5


def test_jitter_spreads_over_the_whole_range() -> None:
    policy = RetryPolicy(initial_delay=1.0, rng=random.Random(7))
    delays = [policy.delay(UnavailableError("no"), 1, remaining=60.0) for _ in range(1000)]
    values = [delay for delay in delays if delay is not None]
    assert len(values) == 1000
    assert 0.0 <= min(values) < 0.01
    assert 0.99 < max(values) <= 1.0
    assert sum(values) / 1000 == pytest.approx(0.5, abs=0.05)


def test_a_full_server_is_retried_only_after_the_delay_it_sent() -> None:
    policy = RetryPolicy(initial_delay=0.1, rng=random.Random(3))
    assert policy.delay(ResourceExhaustedError("full"), 1, remaining=60.0) is None
    full = ResourceExhaustedError("full", retry_after=2.0)
    delays = [policy.delay(full, 1, remaining=60.0) for _ in range(100)]
    assert all(delay is not None and 2.0 <= delay <= 2.1 for delay in delays)


def test_the_delay_of_an_unavailable_server_is_kept() -> None:
    delay = RetryPolicy().delay(UnavailableError("loading", retry_after=3.0), 1, remaining=60.0)
    assert delay is not None
    assert delay >= 3.0


def test_no_attempt_is_waited_for_beyond_the_deadline() -> None:
    policy = RetryPolicy(initial_delay=1.0, rng=TopOfTheRange())
    assert policy.delay(UnavailableError("no"), 1, remaining=1.0) is None
    assert policy.delay(UnavailableError("no"), 1, remaining=1.1) == 1.0
    assert policy.delay(ResourceExhaustedError("full", retry_after=5.0), 1, remaining=4.0) is None


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgumentError("bad"),
        NotFoundError("none"),
        DeadlineExceededError("late"),
        InternalError("broken"),
        ClientError("odd"),
        InvalidArgumentError("bad", retry_after=0.1),
    ],
)
def test_nothing_else_is_tried_again(error: ClientError) -> None:
    assert RetryPolicy().delay(error, 1, remaining=60.0) is None


def test_a_policy_can_limit_attempts() -> None:
    policy = RetryPolicy(max_attempts=2)
    assert policy.delay(UnavailableError("no"), 1, remaining=60.0) is not None
    assert policy.delay(UnavailableError("no"), 2, remaining=60.0) is None


@pytest.mark.parametrize(
    "fields", [{"initial_delay": 0.0}, {"max_delay": 0.01}, {"multiplier": 0.5}, {"max_attempts": 0}]
)
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        RetryPolicy(**fields)  # type: ignore[arg-type]


def test_attempts_share_one_deadline() -> None:
    now = 100.0
    attempts = Attempts(RetryPolicy(initial_delay=1.0, rng=TopOfTheRange()), timeout=5.0, clock=lambda: now)
    assert attempts.begin() == 5.0
    now = 102.0
    assert attempts.delay_after(UnavailableError("no")) == 1.0
    now = 103.0
    assert attempts.begin() == 2.0
    error = UnavailableError("still no")
    with pytest.raises(UnavailableError) as raised:
        attempts.delay_after(error)
    assert raised.value is error
    now = 105.0
    with pytest.raises(DeadlineExceededError):
        attempts.begin()


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("inf"), float("nan")])
def test_every_request_has_a_deadline(timeout: float) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout"):
        checked_timeout(timeout)
