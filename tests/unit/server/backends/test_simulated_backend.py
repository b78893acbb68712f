"""Simulated devices: published times on a schedule that does not drift, and scores made of the images' bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.backends.base import BackendError, BackendOptions
from repserve_server.backends.published import PUBLISHED_DEVICES
from repserve_server.backends.simulated import SimulatedBackend
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.worker.warm_up import measure_costs
from support.fakes import FakeClock

SMALL = Preprocessing(resize=8, crop=8)
PUBLISHED = [
    ("sim:310p", 1, 1 / 1919),
    ("sim:310p", 16, 16 / 8752),
    ("sim:310", 1, 4 / 1112),
    ("sim:310", 16, 64 / 7115),
    ("sim:t4", 1, 1 / 1128),
    ("sim:t4", 16, 16 / 4784),
]


class SimulatedDevice:
    """A device whose sleeps end as late as the test says."""

    def __init__(
        self, device: str = "sim:310p", lateness: Callable[[], float] = lambda: 0.0, **options: object
    ) -> None:
        self.clock = FakeClock()
        self._lateness = lateness
        made = BackendOptions(device, Path(), preprocessing=SMALL, **options)  # type: ignore[arg-type]
        self.backend = SimulatedBackend(made, self.clock, self._sleep)

    def run(self, size: int) -> float:
        """Run a batch; the seconds it took."""
        started = self.clock.now
        self.backend.run(images(size))
        return self.clock.now - started

    def _sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.clock.advance(seconds + self._lateness())


def images(size: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (size, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(("device", "size", "seconds"), PUBLISHED)
def test_a_run_takes_the_published_time(device: str, size: int, seconds: float) -> None:
    assert SimulatedDevice(device).run(size) == pytest.approx(seconds)


@pytest.mark.parametrize("name", sorted(PUBLISHED_DEVICES))
def test_sizes_between_take_what_lies_between(name: str) -> None:
    device = PUBLISHED_DEVICES[name]
    first, last = device.batch_seconds(1), device.batch_seconds(16)
    for size in range(1, 17):
        expected = first + (last - first) * (size - 1) / 15
        assert device.batch_seconds(size) == pytest.approx(expected)
    assert all(device.batch_seconds(size) < device.batch_seconds(size + 1) for size in range(1, 16))


def test_a_card_of_four_chips_is_as_fast_as_published() -> None:
    device = PUBLISHED_DEVICES["310"]
    assert device.devices_per_card * 16 / device.batch_seconds(16) == pytest.approx(7115)


@given(st.lists(st.tuples(st.sampled_from([1, 4, 16]), st.floats(0.0, 0.0005)), min_size=1, max_size=60))
def test_lateness_does_not_add_up_over_runs_in_a_row(runs: list[tuple[int, float]]) -> None:
    late: Iterator[float] = iter([lateness for _, lateness in runs])
    device = SimulatedDevice(lateness=lambda: next(late))
    started = device.clock.now
    for size, _ in runs:
        device.run(size)
    due = sum(PUBLISHED_DEVICES["310p"].batch_seconds(size) for size, _ in runs)
    assert device.clock.now - started == pytest.approx(due + runs[-1][1], abs=1e-9)


@given(st.lists(st.tuples(st.floats(0.0, 0.0004), st.floats(0.0, 0.0005)), min_size=1, max_size=60))
def test_work_of_the_host_between_runs_is_not_made_good(runs: list[tuple[float, float]]) -> None:
    late = iter([lateness for _, lateness in runs])
    device = SimulatedDevice(lateness=lambda: next(late))
    started = device.clock.now
    for host, _ in runs:
        device.clock.advance(host)
        device.run(1)
    expected = sum(host for host, _ in runs) + len(runs) / 1919 + runs[-1][1]
    assert device.clock.now - started == pytest.approx(expected, abs=1e-9)


def test_a_run_after_a_pause_takes_its_whole_time() -> None:
    device = SimulatedDevice(lateness=lambda: 0.0001)
    device.run(16)
    device.clock.advance(5.0)
    assert device.run(16) == pytest.approx(16 / 8752 + 0.0001)


def test_a_host_that_stood_still_does_not_get_runs_for_nothing() -> None:
    late = iter([1.0, 0.0, 0.0])
    device = SimulatedDevice(lateness=lambda: next(late))
    device.run(1)
    assert device.run(1) == pytest.approx(0.0, abs=1e-9), "one run's time is made good"
    assert device.run(1) == pytest.approx(1 / 1919)
    assert device.run(1) == pytest.approx(1 / 1919)


def test_it_reports_its_own_error() -> None:
    late = iter([0.0001, 0.0003])
    device = SimulatedDevice(lateness=lambda: next(late))
    assert device.backend.figures() == {"mean": 0.0, "max": 0.0}
    device.run(1)
    device.run(1)
    assert device.backend.figures() == {"mean": pytest.approx(0.0002), "max": pytest.approx(0.0003)}


def test_scores_depend_on_the_bytes_of_an_image_only() -> None:
    first, second = SimulatedDevice("sim:310p", classes=10), SimulatedDevice("sim:t4", classes=10)
    batch = images(16)
    scores = first.backend.run(batch).copy()
    assert scores.shape == (16, 10)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, second.backend.run(batch))
    np.testing.assert_array_equal(scores[::-1], first.backend.run(batch[::-1]))
    np.testing.assert_array_equal(scores[3:4], first.backend.run(batch[3:4]))
    assert len({row.tobytes() for row in scores}) > 8


def test_sizes_are_those_compiled_up_to_the_largest_batch() -> None:
    assert SimulatedDevice().backend.batch_sizes == (1, 16)
    assert SimulatedDevice(max_batch_size=1).backend.batch_sizes == (1,)
    assert SimulatedDevice(compiled_sizes=(1, 2, 4, 8, 16), max_batch_size=8).backend.batch_sizes == (1, 2, 4, 8)
    assert SimulatedDevice().backend.classes == 1000
    assert SimulatedDevice().backend.simulated


def test_an_unknown_chip_is_told_which_there_are() -> None:
    with pytest.raises(BackendError, match="'sim:910' is not known; simulated devices are sim:310, sim:310p, sim:t4"):
        SimulatedDevice("sim:910")


def test_warm_up_measures_the_published_costs() -> None:
    device = SimulatedDevice(lateness=lambda: 0.00005)
    costs = measure_costs(device.backend, device.clock)
    assert costs.measured[1] == pytest.approx(1 / 1919)
    assert costs.measured[16] == pytest.approx(16 / 8752)
    assert costs.sizes == (1, 16)
