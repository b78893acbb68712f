"""The offline commands on an NPU: over the stand-in of the vendor's packages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.digits_server import compile_digits
from support.harness import DIGITS, repserve, wait_until
from support.standin_models import read_events, standin_environment

IMAGES = DIGITS / "validation" / "images"
LABELS = DIGITS / "validation" / "val_label.txt"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return compile_digits("npu aipp", tmp_path) / "model_bs16.om"


def command(model: Path, *more: str) -> list[str]:
    arguments = ["--model", str(model), "--batch-size", "16", "--images", str(IMAGES), "--labels", str(LABELS)]
    return [repserve(), "bench", "offline", "all", *arguments, *more]


def test_the_librarys_output_is_not_among_the_results(model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(model),
        cwd=tmp_path,
        env={**os.environ, **standin_environment()},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "[INFO]" not in done.stdout
    assert "load model" in done.stderr
    assert "top-1 99.44 %" in done.stdout
    assert json.loads((tmp_path / "result" / "result.json").read_text())["title"]


HANG = """
import sys
from repserve_bench.offline import model
model.RUN_SECONDS = 1.0
from repserve_client.cli import main
main(sys.argv[1:])
"""


def test_a_run_that_never_returns_ends_the_command_and_changes_nothing(model: Path, tmp_path: Path) -> None:
    """The library holds Python's lock meanwhile."""
    (tmp_path / "state").mkdir()
    (tmp_path / "result").mkdir()
    before = tmp_path / "result" / "result.json"
    before.write_text("of an earlier run")
    done = subprocess.run(
        [sys.executable, "-c", HANG, *command(model)[1:]],
        cwd=tmp_path,
        env={**os.environ, **standin_environment(state=str(tmp_path / "state"), faults="hang:3")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert "a run of model_bs16.om on npu:0 has not returned for 1 s" in done.stderr
    assert "npu-smi info" in done.stderr
    assert before.read_text() == "of an earlier run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(model: Path, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "state").mkdir()
    environment = standin_environment(state=str(tmp_path / "state"), batch_seconds="16:0.5")
    with subprocess.Popen(
        command(model, "--dumps"),
        cwd=tmp_path,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        wait_until(lambda: len(read_events(tmp_path / "state", "run")) > 2, "it runs", 60)
        children = psutil.Process(process.pid).children()
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in output
    assert list((tmp_path / "result").iterdir()) == []
    assert read_events(tmp_path / "state", "free"), "the model is given back"
    assert not psutil.wait_procs(children, timeout=20)[1]
