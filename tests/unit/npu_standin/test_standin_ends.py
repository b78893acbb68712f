"""What ends a process with the real packages ends it with the stand-in; each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.harness import wait_until
from support.standin_harness import Compiled, finished, running_script
from support.standin_models import read_events, violations

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import sys, numpy as np, aclruntime
from ais_bench.infer.interface import InferSession
image = np.zeros((1, 3, 8, 8), np.float32)
session = InferSession(0, sys.argv[1])
"""
TOO_MANY_FEEDS = BEGIN + "session.infer([image, image])"
DEAD_DESCRIPTOR = BEGIN + "entry = session.get_inputs()[0]; del session.session, session; entry.name"
NO_OPTIONS = BEGIN + "aclruntime.model(sys.argv[1], 0)"
FORKED = (
    BEGIN
    + """
import os
child = os.fork()
if child == 0:
    session.infer([image])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) + 100)
"""
)
FORKED_BEFORE = """
import os, sys, numpy as np, aclruntime
from ais_bench.infer.interface import InferSession
child = os.fork()
session = InferSession(0, sys.argv[1])
session.infer([np.zeros((1, 3, 8, 8), np.float32)])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else 0)
"""
ONE_RUN = BEGIN + "session.infer([image])"


@pytest.mark.parametrize(
    ("script", "settings", "expected"),
    [
        pytest.param(TOO_MANY_FEEDS, {}, (-signal.SIGSEGV, ["SIGSEGV"]), id="too many feeds"),
        pytest.param(DEAD_DESCRIPTOR, {}, (-signal.SIGSEGV, ["SIGSEGV"]), id="descriptor of a dead session"),
        pytest.param(NO_OPTIONS, {}, (-signal.SIGSEGV, ["SIGSEGV"]), id="no options"),
        pytest.param(ONE_RUN, {"faults": "crash:1"}, (-signal.SIGSEGV, ["SIGSEGV"]), id="crash ordered"),
        pytest.param(FORKED, {}, (100 - signal.SIGABRT, ["used after fork", "SIGABRT"]), id="fork after init"),
        pytest.param(FORKED_BEFORE, {}, (0, []), id="fork before init"),
        pytest.param(ONE_RUN, {}, (0, []), id="end without a word"),
        pytest.param(ONE_RUN, {"generation": "N"}, (0, []), id="end of the newest"),
    ],
)
def test_the_process_ends_as_with_the_real_packages(
    script: str, settings: dict[str, str], expected: tuple[int, list[str]], compiled: Compiled, tmp_path: Path
) -> None:
    code, errors = finished(script, str(compiled.bs1), state=str(tmp_path), **settings)
    assert (code, violations(tmp_path)) == expected, errors
    assert "Traceback" not in errors


def test_the_newest_frees_its_sessions_when_the_process_ends(compiled: Compiled, tmp_path: Path) -> None:
    finished(ONE_RUN, str(compiled.bs1), state=str(tmp_path), generation="N")
    assert [event.name for event in read_events(tmp_path)][-2:] == ["free", "finalize"]


def test_a_hang_lasts_until_the_process_is_killed(compiled: Compiled, tmp_path: Path) -> None:
    with running_script(ONE_RUN, str(compiled.bs1), state=str(tmp_path), faults="hang:1") as process:
        wait_until(lambda: violations(tmp_path) == ["hang"], "the run hangs", 60)
        process.send_signal(signal.SIGINT)  # of which Python would make a KeyboardInterrupt between two instructions
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    assert process.returncode == -signal.SIGKILL
