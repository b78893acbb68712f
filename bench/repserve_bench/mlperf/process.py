"""One run of LoadGen, in a process of its own: its state is global, and only the end of its process stops it."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_bench.load import LoadError
from repserve_bench.mlperf.scenario import LOADED_SAMPLES, test_settings
from repserve_bench.payloads import PayloadError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from repserve_bench.mlperf.scenario import ScenarioJob
    from repserve_bench.mlperf.system import SystemUnderTest

EXIT_TIMEOUT = 10.0


@dataclass(frozen=True)
class Finished:
    """What LoadGen does not log."""

    failed: int
    """Requests that failed; LoadGen counts them as answered."""
    failures: dict[str, str]
    """The first message of each status."""


@dataclass(frozen=True)
class Failed:
    """The run could not be made."""

    message: str


def run_scenario(job: ScenarioJob) -> Finished:
    """Runs one scenario; Ctrl-C ends it.

    Raises:
        LoadError: No server answers, an image cannot be read, or the process ended.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        outcome = ours.recv()
    except EOFError:
        process.join(EXIT_TIMEOUT)
        raise LoadError(f"LoadGen's process ended unexpectedly with exit status {process.exitcode}") from None
    except KeyboardInterrupt:
        process.kill()
        raise
    finally:
        process.join(EXIT_TIMEOUT)
        ours.close()
    if isinstance(outcome, Failed):
        raise LoadError(outcome.message)
    finished: Finished = outcome
    return finished


def _run(job: ScenarioJob, connection: Connection) -> None:
    from repserve_bench.mlperf.system import SystemUnderTest

    try:
        with SystemUnderTest(job.load) as system:
            _start(job, system)
            connection.send(Finished(system.failed, system.failures))
    except PayloadError as error:
        connection.send(Failed(str(error)))
    except TimeoutError:
        connection.send(Failed(f"no server answers at {job.load.address}: start one, or name another with --server"))


def _start(job: ScenarioJob, system: SystemUnderTest) -> None:
    import mlperf_loadgen as loadgen

    count = len(job.load.groups)
    library = loadgen.ConstructQSL(count, min(count, LOADED_SAMPLES), _do_nothing, _do_nothing)
    under_test = loadgen.ConstructSUT(system.issue, _do_nothing)
    logs = loadgen.LogSettings()
    logs.log_output.outdir = job.folder
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    try:
        # An audit.config in the working directory, if any, is not this run's.
        loadgen.StartTestWithLogSettings(under_test, library, test_settings(job), logs, os.devnull)
    finally:
        loadgen.DestroySUT(under_test)
        loadgen.DestroyQSL(library)


def _do_nothing(*_: object) -> None:
    """Stands in for loading samples, which were made in advance, and for flushing queries, which are sent at once."""
