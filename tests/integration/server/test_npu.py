"""The server on an NPU that fails in every way it can: the real server over the stand-in of the vendor's packages."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from repserve_client import Client
from repserve_protos.v1 import classification_pb2 as pb
from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.preprocessing import Preprocessing
from support.digits_server import NPU_KINDS, compile_digits, digits_server
from support.harness import RunningServer, card_predictions, digit_files, refusal, wait_until
from support.standin_models import Event, arm, read_events, standin_environment, violations

if TYPE_CHECKING:
    from pathlib import Path

STATIC, GEARED, AIPP = NPU_KINDS
POISONED, POISON_PIXEL = 6, 251
"""First pixel of an image that the device chokes on; the digits' are black."""


def replay(server: RunningServer, count: int, window: int = 32) -> None:
    """Classify ``count`` digits on a stream; each must be answered, and answered right."""
    predictions, files = card_predictions(), digit_files()
    sent = [files[i % len(files)] for i in range(count)]
    with Client(server.address) as client:
        outcomes = client.classify_stream((file.read_bytes() for file in sent), window=window, timeout=60)
        for file, outcome in zip(sent, outcomes, strict=True):
            assert not isinstance(outcome, Exception), outcome
            assert outcome.predictions[0].best.index == predictions[file.name]


def runs(state: Path) -> list[Event]:
    return [event for event in read_events(state, "run") if event.details["error"] is None]


@pytest.mark.parametrize(
    ("kind", "generation"), [(STATIC, "A"), (GEARED, "A"), (AIPP, "A"), (GEARED, "T"), (GEARED, "N")]
)
def test_every_digit_is_classified_as_in_training_and_no_rule_is_broken(
    kind: str, generation: str, tmp_path: Path
) -> None:
    with digits_server(kind, tmp_path, generation=generation) as server:
        replay(server, len(digit_files()))
        (worker,) = server.children("worker")
        supervisor = server.process.pid
        assert "load model" in server.log, "what the library prints is in the log"
        assert server.output == ""
    events = read_events(tmp_path / "state")
    assert violations(tmp_path / "state") == []
    assert {event.pid for event in events} == {worker.pid} != {supervisor}
    assert len({event.thread for event in events}) == 1
    freed = [event.details["file"] for event in events if event.name == "free" and not event.details["again"]]
    loaded = [event.details["file"] for event in events if event.name == "load"]
    assert freed == ([] if generation == "T" else loaded[::-1])


@pytest.mark.serial  # what a batch costs is measured
@pytest.mark.parametrize(
    ("kind", "sizes_for"),
    [(STATIC, {2: {1}, 15: {16}, 17: {1, 16}}), (GEARED, {3: {4}, 16: {16}}), (AIPP, {9: {16}})],
)
def test_partial_batches_run_on_the_size_that_costs_least(
    kind: str, sizes_for: dict[int, set[int]], tmp_path: Path
) -> None:
    """The worker is frozen while they arrive, so that they surely wait together. Costs are four times a 310P's."""
    seconds = "1:0.02,2:0.024,4:0.032,8:0.048,16:0.07"
    with digits_server(kind, tmp_path, batch_seconds=seconds) as server:
        for waiting, sizes in sizes_for.items():
            padded = server.metric("repserve_padding_images_total")
            batches = run_together(server, digit_files()[:waiting], tmp_path / "state")
            assert set(batches) == sizes
            assert server.metric("repserve_padding_images_total") - padded == sum(batches) - waiting


def run_together(server: RunningServer, files: list[Path], state: Path) -> list[int]:
    """Classify images that wait together, each as in training; returns the sizes of the batches that ran."""
    (worker,) = server.children("worker")
    worker.suspend()
    stub = server.stub()
    calls = [stub.Classify.future(pb.ClassifyRequest(encoded_image=f.read_bytes()), timeout=60) for f in files]
    wait_until(lambda: server.metric("repserve_queue_images") == len(files), "the images wait")
    before = len(read_events(state, "run"))
    worker.resume()
    predictions = card_predictions()
    for file, call in zip(files, calls, strict=True):
        assert call.result(60).predictions[0].classes[0].index == predictions[file.name]
    return [event.details["batch"] for event in read_events(state, "run")[before:]]


@pytest.mark.parametrize(
    ("kind", "faults", "restarts", "log"),
    [
        (STATIC, "run:3", 0, "trying once more"),
        (STATIC, "lost:5", 1, "its device failed"),
        (AIPP, "crash:5", 1, "SIGSEGV"),
        (GEARED, "hang:5", 1, "has not answered for"),
    ],
)
def test_a_fault_of_the_device_costs_no_request(
    kind: str, faults: str, restarts: int, log: str, tmp_path: Path
) -> None:
    # Short only where a hang is expected: a busy machine may hold a worker up for a second, too.
    limit = ("--liveness-timeout-seconds", "2") if faults.startswith("hang") else ()
    with digits_server(kind, tmp_path, *limit, faults=faults, armed="later") as server:
        arm(tmp_path / "state")
        replay(server, 200)
        wait_until(lambda: server.metric("repserve_restarts_total", role="worker") == restarts, "restarts are counted")
        assert log in server.log
        assert server.metric("repserve_poison_images_total") == 0


def test_a_device_that_fails_again_and_again_is_left_before_it_leaks_much(tmp_path: Path) -> None:
    """Every fault is overcome by the second try, and leaks a batch of the device's memory all the same."""
    faults = "run:3,run:10,run:17"
    with digits_server(STATIC, tmp_path, faults=faults, armed="later") as server:
        arm(tmp_path / "state")
        replay(server, 100, window=1)
        wait_until(lambda: server.metric("repserve_restarts_total", role="worker") == 1, "a restart is counted")


def test_a_device_that_fails_while_it_is_warmed_up_is_not_unloaded(tmp_path: Path) -> None:
    compile_digits(STATIC, tmp_path / "repository")
    state = tmp_path / "state"
    state.mkdir()
    environment = standin_environment(state=str(state), faults="run:always")
    with RunningServer(
        "--device", "npu:0", repository=tmp_path / "repository", environment=environment, wait=False
    ) as server:
        assert server.process.wait(60) == 1
        assert "failed twice in a row on the device" in server.log
        assert "npu-smi info" in server.log
    assert not {event.name for event in read_events(state)} & {"free", "unload", "finalize"}


def test_a_device_that_leaks_until_it_is_full_is_left_for_a_new_process(tmp_path: Path) -> None:
    """Every run leaks its input; the process that has filled the device's memory is replaced."""
    with digits_server(STATIC, tmp_path, faults="leak:100", armed="later") as server:
        arm(tmp_path / "state")
        replay(server, 150, window=1)
        wait_until(lambda: server.metric("repserve_restarts_total", role="worker") >= 1, "a restart is counted")


@pytest.mark.parametrize("fault", ["run", "crash", "hang"])
def test_an_image_that_the_device_chokes_on_is_given_up_and_the_others_are_answered(fault: str, tmp_path: Path) -> None:
    limit = ("--liveness-timeout-seconds", "2") if fault == "hang" else ()
    with digits_server(AIPP, tmp_path, *limit, poison=f"{POISON_PIXEL}:{fault}") as server:
        stub, files = server.stub(), digit_files()[:16]
        calls = []
        for position, file in enumerate(files):
            pixels = np.empty((224, 224, 3), np.uint8)
            preprocess_into(file.read_bytes(), Preprocessing(), pixels)
            if position == POISONED:
                pixels[0, 0] = POISON_PIXEL
            request = pb.ClassifyRequest(pixels=pb.Pixels(count=1, data=pixels.tobytes()))
            calls.append(stub.Classify.future(request, timeout=60))
        predictions = card_predictions()
        for position, (file, call) in enumerate(zip(files, calls, strict=True)):
            if position == POISONED:
                code, message = refusal(call.result)
                assert code is grpc.StatusCode.INTERNAL
                assert "2 crashes" in message
            else:
                assert call.result(60).predictions[0].classes[0].index == predictions[file.name]
        replay(server, 20)


def test_two_devices_share_the_work_and_one_dies_without_a_failure(tmp_path: Path) -> None:
    compile_digits(GEARED, tmp_path / "repository")
    state = tmp_path / "state"
    state.mkdir()
    environment = standin_environment(state=str(state), devices="2", batch_seconds="16:0.01")
    with RunningServer(
        "--device", "npu:0,npu:1", repository=tmp_path / "repository", environment=environment
    ) as server:
        first, second = server.children("worker")
        warm_up = len(runs(state))
        replay(server, 200)
        assert {event.pid for event in runs(state)[warm_up:]} == {first.pid, second.pid}
        first.kill()
        replay(server, 200)
        wait_until(lambda: len(server.children("worker")) == 2, "the other is back")
    assert [name for name in violations(state) if name != "killed"] == []


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ("no-driver", "install CANN"),
        ("busy", "[507033]"),
        ("wrong-soc", "compiled for another chip"),
        ("load", "damaged"),
    ],
)
def test_what_keeps_a_device_from_being_used_ends_the_start_with_what_to_do(
    faults: str, words: str, tmp_path: Path
) -> None:
    compile_digits(STATIC, tmp_path)
    environment = standin_environment(faults=faults)
    with RunningServer("--device", "npu:0", repository=tmp_path, environment=environment, wait=False) as server:
        assert server.process.wait(60) == 1
        assert "no model can be served: repvgg_digits: " in server.log
        assert words in server.log
        assert "Traceback" not in server.log


def test_without_the_vendors_packages_the_start_ends_with_what_to_install(tmp_path: Path) -> None:
    compile_digits(STATIC, tmp_path)
    with RunningServer("--device", "npu:0", repository=tmp_path, wait=False) as server:
        assert server.process.wait(60) == 1
        assert "aclruntime is not installed" in server.log
        assert "Traceback" not in server.log


FORK = """
import os, sys
import numpy as np
from pathlib import Path
from repserve_server.backends.acl import AclBackend
from repserve_server.backends.base import BackendOptions, BackendError
backend = AclBackend(BackendOptions("npu:0", Path(sys.argv[1])))
batch = np.zeros((1, 3, 224, 224), np.float32)
backend.run(batch)
child = os.fork()
if child == 0:
    try:
        backend.run(batch)
    except BackendError as error:
        backend.close()
        os._exit(7 if "forked" in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
backend.run(batch)
backend.close()
"""


def test_nothing_of_acl_happens_in_a_forked_process(tmp_path: Path) -> None:
    folder = compile_digits(STATIC, tmp_path / "repository")
    state = tmp_path / "state"
    state.mkdir()
    environment = {**standin_environment(state=str(state)), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert violations(state) == []
    assert len({event.pid for event in read_events(state)}) == 1
