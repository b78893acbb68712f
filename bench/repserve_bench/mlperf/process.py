"""One run of LoadGen, in a process of its own: its state is global, and only the end of its process stops it."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, cast

from repserve_bench.child_process import ChildProcess, Failed
from repserve_bench.errors import BenchError
from repserve_bench.mlperf.scenario import LOADED_SAMPLES, Finished, ScenarioJob, test_settings

if TYPE_CHECKING:
    from repserve_bench.mlperf.system import SystemUnderTest


def run_scenario(job: ScenarioJob) -> Finished:
    """Run one scenario; Ctrl-C ends it.

    Raises:
        LoadError: No server answers, an image cannot be read, or the process ended.
    """
    with ChildProcess("repserve_bench.mlperf.process", job) as process:
        return cast("Finished", process.receive())


def main() -> None:
    """Run the scenario that comes over the socket."""
    from repserve_bench.mlperf.system import SystemUnderTest

    connection = Connection(int(sys.argv[1]))
    job: ScenarioJob = connection.recv()
    try:
        with SystemUnderTest(job.load) as system:
            _start(job, system)
            connection.send(Finished(system.failed, system.failures))
    except BenchError as error:
        connection.send(Failed(str(error)))


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
    """Stand in for loading samples, which were made in advance, and for flushing queries, which are sent at once."""


if __name__ == "__main__":
    main()
