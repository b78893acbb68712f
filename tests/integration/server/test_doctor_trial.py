"""The doctor's processes: commands that hang, and models whose worker crashes, hangs or prints."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from repserve_server.ascend.commands import end_process, run_bounded
from repserve_server.ascend.packages import try_import
from repserve_server.doctor.trial import Trial, try_model
from repserve_server.repository.scan import scan_repository
from repserve_server.settings import Settings
from repserve_server.supervisor.model_source import ModelSource
from support.harness import DIGITS, MODEL_REPOSITORY, repserve, wait_until

WAITS = "import sys; sys.stdin.read()"
RUNTIME = """
import ctypes, os
import numpy as np
from repserve_server.backends.base import BackendError, TensorSpec

class Model:
    name, precision, simulated, any_size, output_name = "broken", "f32", False, False, "scores"

    def __init__(self, options):
        os.write(1, b"printed from C\\n")
        self.input = TensorSpec("image", "uint8", options.preprocessing.shape, "NHWC")
        self.classes, self.batch_sizes = 10, (1,)
        self.load()

    def load(self):
        pass

    def run(self, batch):
        return np.zeros((len(batch), 10), np.float32)

    def figures(self):
        return {}

    def close(self):
        pass

class Crash(Model):
    def load(self):
        os.abort()

class Hang(Model):
    def load(self):
        while True:
            ctypes.PyDLL(None).pause()

class Refuse(Model):
    def load(self):
        raise BackendError("it takes another size")

class HangAtTheEnd(Model):
    def close(self):
        while True:
            ctypes.PyDLL(None).pause()
"""


def attempt(folder: Path, runtime: str, seconds: float = 60.0) -> Trial:
    (folder / "broken.py").write_text(RUNTIME, encoding="utf-8")
    (model,) = (found for found in scan_repository(MODEL_REPOSITORY) if found.name == "repvgg_digits")
    settings = Settings(model_repository=MODEL_REPOSITORY, runtime=f"broken:{runtime}")
    load = ModelSource(model, model.versions[-1], settings).load_message("cpu", 0, "info", 1)
    return try_model(load, seconds, {**os.environ, "PYTHONPATH": str(folder)})


def test_a_model_that_loads_is_measured(tmp_path: Path) -> None:
    trial = attempt(tmp_path, "Model")
    assert (trial.reason, trial.unloaded) == ("", True)
    assert trial.ready is not None
    assert (trial.ready.backend, list(trial.ready.batch_seconds)) == ("broken", [1])


def test_what_a_library_prints_is_in_the_log_of_a_model_that_is_refused(tmp_path: Path) -> None:
    trial = attempt(tmp_path, "Refuse")
    assert trial.reason == "it takes another size"
    assert "printed from C" in trial.log


def test_a_crash_while_loading_is_told_by_its_signal(tmp_path: Path) -> None:
    trial = attempt(tmp_path, "Crash")
    assert trial.reason == "its worker was ended by SIGABRT while loading"


@pytest.fixture
def others() -> list[psutil.Process]:
    """The processes that earlier tests have left to this one, such as the keeper of spawned processes' resources."""
    return psutil.Process().children()


def test_a_hang_while_loading_ends_in_time_and_leaves_no_process(tmp_path: Path, others: list[psutil.Process]) -> None:
    trial = attempt(tmp_path, "Hang", seconds=3.0)
    assert trial.reason == "its worker was not ready after 3 s"
    assert psutil.Process().children() == others


def test_a_worker_that_does_not_end_is_told_and_killed(tmp_path: Path, others: list[psutil.Process]) -> None:
    trial = attempt(tmp_path, "HangAtTheEnd")
    assert (trial.reason, trial.unloaded) == ("", False)
    assert psutil.Process().children() == others


def test_a_worker_dies_with_a_doctor_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(RUNTIME, encoding="utf-8")
    repository = tmp_path / "repository"
    shutil.copytree(DIGITS / "1", repository / "digits" / "1")
    doctor = subprocess.Popen(
        [repserve(), "doctor", "--model-repository", str(repository), "--runtime", "broken:Hang"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        process = psutil.Process(doctor.pid)
        wait_until(lambda: any(child.name() == "repserve-worker" for child in process.children()), "a worker runs")
        (worker,) = process.children()
        doctor.send_signal(signal.SIGKILL)
        doctor.wait(20)
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the worker is gone")
    finally:
        doctor.kill()
        doctor.wait(20)


def test_a_command_gives_status_output_and_errors() -> None:
    script = "import os, sys; print(os.environ['WORD']); print('e', file=sys.stderr); sys.exit(3)"
    done = run_bounded([sys.executable, "-c", script], 30, {"WORD": "given"})
    assert (done.returncode, done.stdout, done.stderr) == (3, "given\n", "e\n")


def test_a_command_that_hangs_is_killed(others: list[psutil.Process]) -> None:
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    with pytest.raises(subprocess.TimeoutExpired, match="timed out after 1 seconds"):
        run_bounded([sys.executable, "-c", script], 1, os.environ)
    assert psutil.Process().children() == others


def test_a_process_that_cannot_be_killed_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE)
    try:
        with monkeypatch.context() as stuck:
            stuck.setattr(process, "kill", lambda: None)
            stuck.setattr("repserve_server.ascend.commands._KILL_SECONDS", 0.1)
            assert not end_process(process)
        assert end_process(process)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("import os; os.write(1, b'noise'); version = 1", "aclruntime (unknown version), ais_bench"),
        ("import os; os.abort()", "the import ended by SIGABRT"),
        ("raise ImportError('libascendcl.so: cannot open shared object file')", "aclruntime cannot be loaded: liba"),
        ("raise ValueError('torn')", "the import ended with status 1 (ValueError: torn)"),
    ],
)
def test_the_vendors_packages_are_imported_in_a_process_of_its_own(tmp_path: Path, body: str, found: str) -> None:
    (tmp_path / "aclruntime.py").write_text(body, encoding="utf-8")
    (tmp_path / "ais_bench" / "infer").mkdir(parents=True)
    (tmp_path / "ais_bench" / "infer" / "interface.py").write_text("", encoding="utf-8")
    outcome = try_import({**os.environ, "PYTHONPATH": str(tmp_path)})
    assert outcome.found.startswith(found)


def test_an_import_that_hangs_ends_in_time(tmp_path: Path) -> None:
    (tmp_path / "aclruntime.py").write_text("import signal\nwhile True: signal.pause()", encoding="utf-8")
    outcome = try_import({**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=2.0)
    assert outcome.found == "the import did not finish within 2 s: the driver hangs"
