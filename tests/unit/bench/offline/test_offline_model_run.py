"""A run over files: batches, padding, order, what is read ahead, and what ends it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from repserve_bench.offline import model_run
from repserve_bench.offline.errors import BadImageError, OfflineError
from repserve_bench.offline.input_reader import ModelInput
from repserve_bench.offline.model_run import ModelRun, RunOutcome
from repserve_server.backends.base import DeviceError
from support.fakes import IMAGE_SHAPE, FakeBackend, FakeClock, scores_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BATCH = 4


def image(number: int) -> NDArray[np.uint8]:
    return np.full(IMAGE_SHAPE, number, np.uint8)


def files(count: int) -> list[Path]:
    return [Path(f"{number}.bin") for number in range(1, count + 1)]


class Run:
    """A run on a fake backend, with all that it gave to the sink."""

    def __init__(self, reader: Callable[[Path], ModelInput] | None = None) -> None:
        self.clock = FakeClock()
        self.backend = FakeBackend(batch_sizes=(BATCH,))
        self.batches: list[NDArray[np.generic]] = []
        self.backend.on_run = lambda batch: self.batches.append(batch.copy())
        self.taken: list[tuple[Path, NDArray[np.float32]]] = []
        self.on_take: Callable[[], None] = lambda: None
        self.done: list[int] = []
        self.reader = reader or self.read

    def read(self, file: Path) -> ModelInput:
        now = self.clock()
        return ModelInput(image(int(file.stem)), (now, now), (now, now))

    def take(self, file: Path, scores: NDArray[np.float32]) -> None:
        self.taken.append((file, scores))
        self.on_take()

    def __call__(self, chosen: list[Path]) -> RunOutcome:
        run = ModelRun(self.backend, BATCH, self.reader, self.take, clock=self.clock, threads=2)
        return run.run(chosen, self.done.append)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 11])
def test_every_image_gets_its_own_scores_in_order(count: int) -> None:
    run = Run()
    outcome = run(files(count))
    assert [file for file, _ in run.taken] == files(count)
    for number, (_, scores) in enumerate(run.taken, start=1):
        assert (scores == scores_of(image(number))).all()
    assert (outcome.images, outcome.problems) == (count, [])
    assert sum(run.done) == count


def test_batches_have_one_size_and_the_last_is_filled_up_with_zeros() -> None:
    run = Run()
    run(files(6))
    firsts = [batch.reshape(BATCH, -1)[:, 0].tolist() for batch in run.batches]
    assert firsts == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 0, 0]], "the first is the run that is not timed"


def test_scores_are_kept_when_the_backend_reuses_its_memory() -> None:
    run, memory = Run(), np.zeros((BATCH, 4), np.float32)

    def reuse(batch: NDArray[np.generic]) -> NDArray[np.float32]:
        memory[...] = np.stack([scores_of(row) for row in batch])
        return memory

    run.backend.run = reuse  # type: ignore[method-assign]
    run(files(8))
    assert (run.taken[0][1] == scores_of(image(1))).all()


def test_figures_follow_the_clock() -> None:
    run = Run()
    run.backend.on_run = lambda _: run.clock.advance(2.0)
    run.on_take = lambda: run.clock.advance(0.5)
    figures = run(files(8)).throughput
    assert figures.interface == 8 / 4.0, "two runs of two seconds; the one before the clock does not count"
    assert figures.end_to_end == 8 / (2 * 2.0 + 8 * 0.5)
    assert figures.latency == 8000.0
    assert figures.infer_time == 500.0
    assert figures.infer == 8 / (2.0 + 2.0 + 2.0), "from the first batch's beginning to the second's end"
    assert figures.post == 2 / 6.0


def test_putting_the_batch_together_is_not_time_inside_the_model() -> None:
    class SlowToCopy:
        def __array__(self, *_: object, **__: object) -> NDArray[np.uint8]:
            run.clock.advance(1.0)
            return image(1)

    def read(_: Path) -> ModelInput:
        return ModelInput(cast("NDArray[np.uint8]", SlowToCopy()), (0.0, 0.0), (0.0, 0.0))

    run = Run(read)
    run.backend.on_run = lambda _: run.clock.advance(2.0)
    figures = run(files(BATCH)).throughput
    assert figures.interface == BATCH / 2.0
    assert figures.infer_time == 1000 * (BATCH * 1.0 + 2.0) / BATCH


def test_padding_counts_for_nothing() -> None:
    run = Run()
    run.backend.on_run = lambda _: run.clock.advance(2.0)
    assert run(files(1)).throughput.interface == 1 / 2.0


def test_a_bad_image_is_left_out_and_named() -> None:
    def read(file: Path) -> ModelInput:
        if file.stem in ("2", "5"):
            raise BadImageError(f"{file}: broken")
        return run.read(file)

    run = Run(read)
    outcome = run(files(6))
    assert [file.stem for file, _ in run.taken] == ["1", "3", "4", "6"]
    assert outcome.problems == ["2.bin: broken", "5.bin: broken"]
    assert outcome.images == 4
    assert sum(run.done) == 6


def test_a_run_of_bad_images_only_is_an_error() -> None:
    def read(file: Path) -> ModelInput:
        raise BadImageError(f"{file}: broken")

    with pytest.raises(OfflineError, match=r"none of the 3 images can be used; the first: 1\.bin: broken"):
        Run(read)(files(3))


def test_a_file_that_is_no_input_ends_the_run() -> None:
    def read(file: Path) -> ModelInput:
        if file.stem == "3":
            raise OfflineError(f"{file} has 12 bytes")
        return run.read(file)

    run = Run(read)
    with pytest.raises(OfflineError, match=r"3\.bin has 12 bytes"):
        run(files(100))
    assert run.taken == []


def test_only_so_much_is_read_ahead() -> None:
    begun: list[Path] = []

    def read(file: Path) -> ModelInput:
        begun.append(file)
        return run.read(file)

    run = Run(read)
    read_by_then: list[int] = []
    run.on_take = lambda: read_by_then.append(len(begun))
    run(files(200))
    assert len(read_by_then) == 200
    for done, count in enumerate(read_by_then):
        assert count <= done + 4 * BATCH


def test_a_file_that_cannot_be_read_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_run, "READ_TIMEOUT", 0.05)
    released = threading.Event()

    def read(file: Path) -> ModelInput:
        assert released.wait(30)
        return run.read(file)

    run = Run(read)
    try:
        with pytest.raises(OfflineError, match=r"1\.bin was not read within"):
            run(files(1))
    finally:
        released.set()


def test_a_model_that_fails_is_an_error_in_one_line_and_a_lost_device_stays_one() -> None:
    run = Run()

    def fail(_: NDArray[np.generic]) -> None:
        raise error

    run.backend.on_run = fail
    error: Exception = RuntimeError("out of memory")
    with pytest.raises(OfflineError, match="the model failed on a batch of 4 images: out of memory"):
        run(files(1))
    error = DeviceError("the device was lost")
    with pytest.raises(DeviceError):
        run(files(1))


def test_the_model_runs_in_the_calling_thread_only() -> None:
    run = Run()
    threads = set()
    run.backend.on_run = lambda _: threads.add(threading.get_ident())
    run(files(9))
    assert threads == {threading.get_ident()}
