"""How long to wait before a child is started again."""

from __future__ import annotations

from repserve_server.supervisor.backoff import (
    CALM_SECONDS,
    FIRST_SECONDS,
    LONGEST_AFTER_KILL_SECONDS,
    LONGEST_SECONDS,
    SERVICE_SECONDS,
    Backoff,
)
from support.fakes import FakeClock


def test_delays_double_up_to_a_limit() -> None:
    backoff = Backoff(FakeClock())
    delays = [backoff.next_delay() for _ in range(12)]
    assert delays[:4] == [0.0, FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert delays[-1] == LONGEST_SECONDS
    assert delays == sorted(delays)


def test_a_calm_time_forgives() -> None:
    clock = FakeClock()
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.next_delay()
    clock.advance(CALM_SECONDS)
    assert backoff.next_delay() > 0
    clock.advance(CALM_SECONDS + 1)
    assert backoff.next_delay() == 0.0


def test_a_night_of_crashes_is_survived() -> None:
    clock = FakeClock()
    backoff = Backoff(clock)
    for _ in range(1100):
        clock.advance(backoff.next_delay())
    assert backoff.next_delay() == LONGEST_SECONDS


def test_a_child_that_was_in_service_is_back_at_once() -> None:
    backoff = Backoff(FakeClock())
    delays = [backoff.next_delay(served) for served in (0.0, 0.0, 0.5, SERVICE_SECONDS, 0.0)]
    assert delays == [0.0, FIRST_SECONDS, 2 * FIRST_SECONDS, 0.0, FIRST_SECONDS]


def test_a_child_that_was_killed_in_service_is_back_at_once_and_one_that_was_loading_soon() -> None:
    backoff = Backoff(FakeClock())
    assert [backoff.next_delay(0.01, killed=True) for _ in range(20)] == [0.0] * 20
    delays = [backoff.next_delay(killed=True) for _ in range(20)]
    assert max(delays) == LONGEST_AFTER_KILL_SECONDS
