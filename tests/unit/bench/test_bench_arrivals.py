from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_bench.arrivals import Arrivals

RATES = st.floats(0.1, 10_000, allow_nan=False)


def first(arrivals: Arrivals, count: int) -> list[float]:
    return list(islice(arrivals.offsets(), count))


@given(rate=RATES, count=st.integers(1, 200))
def test_a_constant_rate_is_evenly_spaced_from_0(rate: float, count: int) -> None:
    assert first(Arrivals(rate, "constant"), count) == pytest.approx([number / rate for number in range(count)])


@given(rate=RATES, processes=st.integers(1, 8), count=st.integers(1, 50))
def test_the_shares_of_a_constant_rate_interleave_to_the_whole(rate: float, processes: int, count: int) -> None:
    whole = Arrivals(rate, "constant")
    shares = [offset for number in range(processes) for offset in first(whole.share(number, processes), count)]
    assert sorted(shares) == pytest.approx(first(whole, processes * count))


@given(seed=st.integers(0, 1000), rate=RATES)
def test_random_arrivals_come_in_order_and_again_from_the_same_seed(seed: int, rate: float) -> None:
    offsets = first(Arrivals(rate, seed=seed), 100)
    assert offsets == sorted(offsets)
    assert offsets == first(Arrivals(rate, seed=seed), 100)
    assert offsets != first(Arrivals(rate, seed=seed + 1), 100)


@pytest.mark.parametrize("processes", [1, 3])
def test_random_arrivals_have_the_rate_and_gaps_of_a_poisson_process(processes: int) -> None:
    whole, count = Arrivals(100.0, seed=7), 20_000
    offsets = sorted(
        offset for number in range(processes) for offset in first(whole.share(number, processes), count // processes)
    )
    gaps = [later - earlier for earlier, later in pairwise(offsets)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.01, rel=0.05)
    assert variance**0.5 == pytest.approx(mean, rel=0.05), "of exponential gaps, deviation and mean are the same"


def test_processes_do_not_send_at_the_same_times() -> None:
    shares = [first(Arrivals(100.0, seed=3).share(number, 4), 10) for number in range(4)]
    assert len({tuple(share) for share in shares}) == 4
