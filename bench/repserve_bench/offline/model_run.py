"""A run of a model over many files: threads read ahead, the calling thread runs the model, each stage is timed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repserve_bench.offline.errors import BadImageError, OfflineError
from repserve_bench.offline.input_reader import ModelInput
from repserve_bench.offline.perf_file import Stages
from repserve_server.backends.base import BackendError
from repserve_server.process import available_cpus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_bench.offline.perf_file import Throughput
    from repserve_server.backends.base import Backend

READ_TIMEOUT = 120.0
"""Seconds for which the model waits for the next file."""

Reader = Callable[[Path], ModelInput]
"""Makes a model input from a file; called in many threads at once."""
Sink = Callable[[Path, "NDArray[np.float32]"], None]
"""Takes the file of an image and its scores, [classes]."""


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        images: Images that the model classified.
        problems: A line for each image that could not be used, in the order of the files.
        throughput: Times and rates.
    """

    images: int
    problems: list[str]
    throughput: Throughput


class ModelRun:
    """Runs a model over files in batches of one size; the last is filled up with zeros, whose scores are dropped.

    The model runs in the calling thread only, which must be the one that loaded it. Files are read and images decoded
    in threads of this process: nothing is forked, which an NPU does not allow.

    Args:
        backend: The model.
        batch_size: Images of each run.
        reader: Makes a model input from a file.
        sink: Gets each image's scores, in the order of the files.
        watch: Entered around each run of the model.
        clock: Seconds; the reader's too.
        threads: Reading threads.
    """

    def __init__(
        self,
        backend: Backend,
        batch_size: int,
        reader: Reader,
        sink: Sink,
        *,
        watch: Callable[[], AbstractContextManager[None]] = nullcontext,
        clock: Callable[[], float] = time.perf_counter,
        threads: int | None = None,
    ) -> None:
        self._backend, self._reader, self._sink, self._clock = backend, reader, sink, clock
        self._watch = watch
        self._threads = threads or available_cpus()
        self._batch: NDArray[np.generic] = np.zeros((batch_size, *backend.input.shape), backend.input.dtype)
        self._stages = Stages()
        self._problems: list[str] = []

    def run(self, files: Sequence[Path], advance: Callable[[int], None] = lambda _: None) -> RunOutcome:
        """Run the model over all files, after one run of zeros that is not timed.

        Args:
            files: Tensors or images.
            advance: Called with the number of files that were just done.

        Raises:
            OfflineError: A file is no input for this model, no image can be used, or the model fails.
            BackendError: The device failed.
        """
        self._call_model(len(self._batch))
        began = self._clock()
        waiting: list[tuple[Path, ModelInput]] = []
        with closing(self._read_ahead(files)) as inputs:
            for file, model_input in inputs:
                if model_input is None:
                    advance(1)
                    continue
                waiting.append((file, model_input))
                if len(waiting) == len(self._batch):
                    self._run_batch(waiting)
                    advance(len(waiting))
                    waiting.clear()
        if waiting:
            self._run_batch(waiting)
            advance(len(waiting))
        seconds = self._clock() - began
        images = self._stages.infer.count
        if not images:
            raise OfflineError(f"none of the {len(files)} images can be used; the first: {self._problems[0]}")
        return RunOutcome(images, self._problems, self._stages.throughput(seconds))

    def _read_ahead(self, files: Sequence[Path]) -> Generator[tuple[Path, ModelInput | None]]:
        """Yield the inputs in order, None for a bad image; read at most two batches and a file per thread ahead."""
        ahead = 2 * len(self._batch) + self._threads
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="read")
        pending: deque[tuple[Path, Future[ModelInput]]] = deque()
        try:
            for file in files:
                pending.append((file, pool.submit(self._reader, file)))
                if len(pending) > ahead:
                    yield self._next_input(pending)
            while pending:
                yield self._next_input(pending)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _next_input(self, pending: deque[tuple[Path, Future[ModelInput]]]) -> tuple[Path, ModelInput | None]:
        file, future = pending.popleft()
        try:
            model_input = future.result(READ_TIMEOUT)
        except BadImageError as error:
            self._problems.append(str(error))
            return file, None
        except TimeoutError as error:
            raise OfflineError(f"{file} was not read within {READ_TIMEOUT:.0f} s; can its folder be read?") from error
        self._stages.read.add(*model_input.read)
        self._stages.preprocess.add(*model_input.preprocess)
        return file, model_input

    def _run_batch(self, images: Sequence[tuple[Path, ModelInput]]) -> None:
        began = self._clock()
        for row, (_, model_input) in enumerate(images):
            self._batch[row] = model_input.values
        self._batch[len(images) :] = 0
        called = self._clock()
        scores = self._call_model(len(images))
        returned = self._clock()
        scores = scores[: len(images)].copy()
        taken = self._clock()
        self._stages.infer.add(began, taken, len(images))
        self._stages.interface.add(called, returned, len(images))
        for (file, _), row_of_scores in zip(images, scores, strict=True):
            self._sink(file, row_of_scores)
        self._stages.post.add(taken, self._clock())

    def _call_model(self, images: int) -> NDArray[np.float32]:
        try:
            with self._watch():
                return self._backend.run(self._batch)
        except BackendError:
            raise
        except Exception as error:
            raise OfflineError(f"the model failed on a batch of {images} images: {error}") from error
