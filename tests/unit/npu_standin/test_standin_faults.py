"""The stand-in fails when it is told to, and only then."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from standin.faults import Fault, parse
from standin.settings import Settings
from support.standin_harness import (
    GENERAL_FAILURE,
    INVALID_PARAMETER,
    Compiled,
    images,
    infer,
    interface,
    native_session,
)
from support.standin_models import arm, read_events, standin_loaded, violations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def outcomes(compiled: Compiled, count: int) -> Iterator[str]:
    """One session's runs in this process: ``ok``, or how each failed."""
    session = interface().InferSession(0, str(compiled.bs1))
    for _ in range(count):
        try:
            infer(session, "A", images(1))
        except RuntimeError as error:
            yield str(error)
        else:
            yield "ok"


def failed(runs: Iterator[str]) -> list[int]:
    """Which of the runs failed, from 1."""
    return [number for number, outcome in enumerate(runs, 1) if outcome != "ok"]


@given(st.integers(1, 10**6), st.booleans(), st.sampled_from(["load", "busy", "run", "lost", "hang", "crash"]))
def test_an_entry_reads_as_it_is_written(number: int, onwards: bool, kind: str) -> None:
    assert list(parse(f"{kind}:{number}{'+' * onwards},no-driver")) == [
        Fault(kind, number, onwards),
        Fault("no-driver", None, onwards=False),
    ]


@pytest.mark.parametrize(
    ("faults", "first", "second"),
    [
        ("run:3", [3], []),
        ("run:7", [], [2]),  # once, whichever process comes to it
        ("run:4+", [4, 5], [4, 5]),
        ("run", [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
        ("lost:3", [3, 4, 5], []),
        ("run:1,run:5", [1, 5], []),
        ("leak:3", [4, 5], [4, 5]),
    ],
)
def test_runs_fail_once_or_for_good_also_after_a_restart(
    faults: str, first: list[int], second: list[int], compiled: Compiled, tmp_path: Path
) -> None:
    for expected in (first, second):
        with standin_loaded(faults=faults, state=str(tmp_path)):
            assert failed(outcomes(compiled, 5)) == expected


def test_a_run_that_fails_says_nothing_of_the_reason(compiled: Compiled, tmp_path: Path) -> None:
    with standin_loaded(faults="run:1", state=str(tmp_path)):
        assert list(outcomes(compiled, 2)) == ["[-1][ACL: general failure] ", "ok"]
    assert [event.details["error"] for event in read_events(tmp_path, "run")] == ["[-1][ACL: general failure] ", None]


def test_leaking_fills_the_device_until_no_input_fits(
    compiled: Compiled, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with standin_loaded(faults="leak:2", state=str(tmp_path)):
        assert failed(outcomes(compiled, 3)) == [3]
    assert [event.details["buffers"] for event in read_events(tmp_path, "leak")] == [1, 2, 3]
    assert "in size:2 needsize:" in capfd.readouterr().out


@pytest.mark.parametrize(("kind", "how"), [("hang", "hang"), ("crash", "SIGSEGV")])
def test_a_run_that_ends_the_process_is_noted_first(kind: str, how: str, compiled: Compiled, tmp_path: Path) -> None:
    with standin_loaded(faults=f"{kind}:2", state=str(tmp_path)):
        from standin.failures import ProcessEnded

        with pytest.raises(ProcessEnded, match=how):
            list(outcomes(compiled, 2))
    assert violations(tmp_path) == [how]


def test_loads_fail_once_or_always(compiled: Compiled, tmp_path: Path) -> None:
    with standin_loaded(faults="load:1", state=str(tmp_path)), pytest.raises(RuntimeError, match=INVALID_PARAMETER):
        native_session(compiled.bs1)
    with standin_loaded(faults="load:1", state=str(tmp_path)):
        native_session(compiled.bs1)
    with standin_loaded(faults="load:always"):
        for _ in range(2):
            with pytest.raises(RuntimeError, match=INVALID_PARAMETER):
                native_session(compiled.bs1)


def test_a_busy_device_does_not_open(compiled: Compiled, tmp_path: Path) -> None:
    with standin_loaded(faults="busy:1", state=str(tmp_path)):
        with pytest.raises(RuntimeError, match=r"^\[507033\]\[Error code unknown\] $"):
            native_session(compiled.bs1)
        native_session(compiled.bs1)


def test_another_chip_loads_nothing(compiled: Compiled) -> None:
    with standin_loaded(faults="wrong-soc"), pytest.raises(RuntimeError, match=INVALID_PARAMETER):
        native_session(compiled.bs1)


@pytest.mark.parametrize("module", ["aclruntime", "ais_bench.infer.interface"])
def test_without_a_driver_neither_package_can_be_imported(module: str) -> None:
    with standin_loaded(faults="no-driver"), pytest.raises(ImportError, match=r"^libascendcl\.so: cannot open shared"):
        __import__(module)


def test_faults_can_wait_until_they_are_armed(compiled: Compiled, tmp_path: Path) -> None:
    with standin_loaded(faults="run:2,leak:1", armed="later", state=str(tmp_path)):
        assert failed(outcomes(compiled, 3)) == []
        arm(tmp_path)
        assert failed(outcomes(compiled, 3)) == [2, 3]  # the fault, then a full device


def test_a_poisonous_image_strikes_wherever_it_lies_in_the_batch(compiled: Compiled, tmp_path: Path) -> None:
    poisoned = images(4)
    poisoned[2, 0, 0, 0] = 0.5
    with standin_loaded(poison="0.5", state=str(tmp_path)):
        session = interface().InferSession(0, str(compiled.bs4))
        infer(session, "A", np.where(images(4) == 0.5, 0, images(4)))
        with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
            infer(session, "A", poisoned)
        infer(session, "A", images(4))
        pixels = np.full((4, 8, 8, 3), 7, np.uint8)
        infer(interface().InferSession(0, str(compiled.aipp)), "A", pixels)
    with standin_loaded(poison="250,7:lost"):
        session = interface().InferSession(0, str(compiled.aipp))
        infer(session, "A", np.zeros_like(pixels))
        for feed in (pixels, np.zeros_like(pixels)):
            with pytest.raises(RuntimeError, match=GENERAL_FAILURE):
                infer(session, "A", feed)


@pytest.mark.serial
def test_a_batch_takes_its_time_and_holds_pythons_lock(compiled: Compiled) -> None:
    done, ticks = threading.Event(), 0

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    with standin_loaded(batch_seconds="1:0.3"):
        session = interface().InferSession(0, str(compiled.bs1))
        thread = threading.Thread(target=tick)
        thread.start()
        before, begin = ticks, time.perf_counter()
        infer(session, "A", images(1))
        seconds, after = time.perf_counter() - begin, ticks
        done.set()
        thread.join(20)
    assert seconds >= 0.3
    assert after - before < 50, "of the 300 or so that it would have had time for"


def test_sizes_between_take_the_time_of_the_next_larger() -> None:
    table = Settings(batch_seconds="16:0.0018,1:0.0005")
    assert [table.seconds_of(size) for size in (1, 2, 16, 32)] == [0.0005, 0.0018, 0.0018, 0.0018]
    assert Settings().seconds_of(1) == 0
