"""The guide's preprocessing step: a folder of images becomes a folder of .bin files, in several processes.

The processes are spawned, never forked, and die with this one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from repserve_bench.offline.errors import BadImageError, OfflineError
from repserve_bench.offline.files import LITTLE_ENDIAN_FLOAT, TENSOR_SUFFIX, check_stems, stem_of
from repserve_bench.offline.image_reader import ImageReader
from repserve_server.files import write_whole
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.process import become_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MODELS = {"repvgg": Preprocessing()}
"""The preprocessing of each model name that the guide's script knows."""
IMAGES_PER_TASK = 4
TASKS_AHEAD = 4
"""Tasks for each process that are submitted before the first is done."""
SILENCE_TIMEOUT = 120.0
"""Seconds without any finished task after which the processes are given up."""


def model_preprocessing(model: str) -> Preprocessing:
    """Return the preprocessing of the guide's script for a model name.

    Raises:
        OfflineError: The name is not known.
    """
    if model not in MODELS:
        raise OfflineError(f"unknown model {model!r}; expected {' or '.join(sorted(MODELS))}")
    return MODELS[model]


def preprocess_images(
    images: Sequence[Path],
    destination: Path,
    reader: ImageReader,
    *,
    processes: int,
    advance: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Write each image's tensor to ``destination``: raw little-endian float32 [3, crop, crop], ``<stem>.bin``.

    Every file is complete or absent. An earlier run's tensor is removed if its image cannot be decoded now.

    Args:
        images: The files.
        destination: Folder for the tensors; made where there is none.
        reader: How images are prepared; for float32.
        processes: Decoding processes.
        advance: Called with the number of images that were just done.

    Returns:
        A line for each image that could not be used, in the order of ``images``.

    Raises:
        OfflineError: Two images would be written to one file (nothing is written then), or a process died.
        OSError: A tensor cannot be written.
    """
    check_stems(images)
    destination.mkdir(parents=True, exist_ok=True)
    tasks = deque(images[start : start + IMAGES_PER_TASK] for start in range(0, len(images), IMAGES_PER_TASK))
    problems: dict[Path, str] = {}
    with _decoding_processes(min(processes, len(tasks))) as pool:
        running: dict[Future[dict[Path, str]], int] = {}
        while tasks or running:
            with _interrupts_held_back():
                while tasks and len(running) < processes * TASKS_AHEAD:
                    task = tasks.popleft()
                    running[pool.submit(write_tensors, task, destination, reader)] = len(task)
            done, _ = wait(running, timeout=SILENCE_TIMEOUT, return_when=FIRST_COMPLETED)
            if not done:
                _kill_children()
                raise OfflineError(f"no image was finished for {SILENCE_TIMEOUT:.0f} s; can the folder still be read?")
            for future in done:
                problems |= _result(future)
                advance(running.pop(future))
    return [problems[image] for image in images if image in problems]


def write_tensors(images: Sequence[Path], destination: Path, reader: ImageReader) -> dict[Path, str]:
    """Write the tensors of a few images, in a decoding process.

    Returns:
        For each image that could not be used, why.

    Raises:
        OSError: A tensor cannot be written.
    """
    problems = {}
    for image in images:
        file = destination / f"{stem_of(image.name)}{TENSOR_SUFFIX}"
        try:
            values = reader.read(image)
        except BadImageError as error:
            file.unlink(missing_ok=True)
            problems[image] = str(error)
        else:
            write_whole(file, values.astype(LITTLE_ENDIAN_FLOAT, copy=False).tobytes())
    return problems


@contextlib.contextmanager
def _decoding_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Run a pool whose processes ignore Ctrl-C; at the end they finish their current images."""
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_become_decoder,
        initargs=(os.getpid(),),
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _become_decoder(parent: int) -> None:
    try:
        become_child(parent, "repserve-decode")
    except SystemExit:
        os._exit(1)  # the pool would print a useless traceback
    # When one of its processes dies, the pool ends the others with SIGTERM and waits for them.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Delay Ctrl-C while processes are spawned: they inherit this, and print no traceback before they ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill_children() -> None:
    for child in multiprocessing.active_children():
        child.kill()


def _result(future: Future[dict[Path, str]]) -> dict[Path, str]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise OfflineError(
            "a decoding process died, perhaps out of memory; try fewer --processes. Every file that was written is "
            "complete"
        ) from error
