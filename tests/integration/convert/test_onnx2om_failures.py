"""``repserve convert onnx2om`` with a stand-in for atc that fails: its messages, and that nothing is left behind."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.harness import wait_until
from support.onnx2om_harness import arguments, fail, runs, started, state, succeed

SECONDS = 60.0

FAILURES = [
    ("unsupported", r"exit status 255\): the chip or this CANN does not support .*; atc says: EZ3003: "),
    ("module", r"exit status 255\): a Python package that CANN needs is missing .*; atc says: EC0010: "),
    ("inner", r"exit status 255\): an error inside CANN: .*; atc says: E19999: Inner Error!"),
    ("crash", r"signal 11\): it crashed; its log is above"),
    ("killed", r"signal 9\): it was killed, as the kernel does when memory is short"),
    ("mute", r"exit status 0\): its log above may say why"),
    ("status", r"exit status 255\): its log above may say why"),
    ("silent", r"atc reports success, but wrote no model_bs16\.om"),
]


def wait_until_ended(tmp_path: Path, count: int) -> None:
    pids = started(tmp_path)
    assert len(pids) == count
    wait_until(lambda: not any(map(runs, pids)), "atc and its compiler have ended")


@pytest.mark.parametrize(("fault", "message"), FAILURES, ids=[fault for fault, _ in FAILURES])
def test_a_failure_is_explained_and_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setenv("STANDIN_ATC_FAULT", f"{fault}@model_bs16")
    assert re.search(message, fail(model))
    assert state(tmp_path / "work") == {}


def test_a_failure_leaves_the_old_files_as_they_were(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed(model, "--batch-sizes", "1,16")
    before = state(tmp_path / "work")
    assert "repo/means/1/model_bs16.om" in before
    monkeypatch.setenv("STANDIN_ATC_FAULT", "unsupported@model_bs8")
    fail(model, "--aipp", "--batch-sizes", "1,4,8")
    assert state(tmp_path / "work") == before


def test_a_chip_that_cann_does_not_know_is_explained(model: Path) -> None:
    line = fail(model, "--soc-version", "Ascend999")
    assert "this CANN does not know the chip" in line
    assert line.endswith("EE1001: The argument is invalid.Reason: Soc version [Ascend999] is invalid")


def test_an_atc_that_takes_too_long_is_killed(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_ATC_FAULT", "hang")
    assert "after 3 s and was killed: give it more time with --time-limit" in fail(model, "--time-limit", "3")
    wait_until_ended(tmp_path, 2)
    assert state(tmp_path / "work") == {}


def test_a_compiler_left_behind_neither_holds_the_command_up_nor_lives_on(
    model: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_ATC_FAULT", "leftover")
    begin = time.monotonic()
    succeed(model, "--batch-sizes", "1", "--time-limit", "100")
    assert time.monotonic() - begin < 50
    wait_until_ended(tmp_path, 1)
    assert (folder / "model_bs1.om").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_log_is_streamed_and_a_signal_ends_everything(
    model: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "repserve_client.cli", "convert", *arguments(model)],
        env={**os.environ, "STANDIN_ATC_FAULT": "hang@model_bs16"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        # Half a line, of the second run: it is shown while atc goes on.
        output = read_until(process.stdout.fileno(), rb"compiling model_bs16\.om [^\n]*\nATC start[^\n]*\n\.\.\.$")
        assert b"compiled model_bs1.om" in output
        wait_until(lambda: len(started(tmp_path)) == 2, "atc hangs")
        assert all(map(runs, started(tmp_path)))
        process.send_signal(number)
        rest, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == status
    assert b"Traceback" not in rest
    wait_until_ended(tmp_path, 2)
    assert state(tmp_path / "work") == {}


def read_until(stream: int, pattern: bytes) -> bytes:
    """What comes from a stream until it matches."""
    output, deadline = b"", time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not re.search(pattern, output):
            assert selector.select(max(0.0, deadline - time.monotonic())), output
            data = os.read(stream, 65536)
            assert data, output
            output += data
    return output
