"""How the server starts and ends: settings, ports, models that cannot be loaded, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import grpc
import psutil
import pytest

from repserve_protos.v1 import classification_pb2 as pb
from support.harness import DIGITS, RunningServer, digit_files, refusal, repserve, wait_until

CHEAP = ("--model", "repvgg_digits", "--device", "sim:310p")
"""What the model runs on does not matter here; this loads at once."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written


def _shared_memory_names() -> set[str]:
    return {path.name for path in SHARED_MEMORY.iterdir()}


@pytest.mark.serial  # no other test may make shared memory or take the port meanwhile
@pytest.mark.parametrize(
    ("how", "device"), [("term", "cpu"), ("term", "sim:310p"), ("interrupt", "sim:310p"), ("kill", "sim:310p")]
)
def test_nothing_is_left_behind(how: str, device: str) -> None:
    names = _shared_memory_names()
    with RunningServer("--model", "repvgg_digits", "--device", device, "--frontends", "2") as server:
        family = server.family()
        assert len(family) == 4
        server.stub().Classify(pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes()), timeout=10)
        assert _shared_memory_names() == names
        if how == "term":
            assert server.signal_and_wait(signal.SIGTERM) == 0
        elif how == "interrupt":
            os.killpg(server.process.pid, signal.SIGINT)
            assert server.process.wait(40) == 0
            assert "Traceback" not in server.log
        else:
            assert server.signal_and_wait(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not any(_alive(process) for process in family), "every process has ended", 10)
        # A killed process shows as ended a moment before the last of its threads lets go of its sockets.
        wait_until(lambda: _can_listen(server.address), "the port is free", 10)
    assert _shared_memory_names() == names


def _can_listen(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as taken:
        # Connections that have ended linger in TIME_WAIT; a listening socket would still refuse this.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind((host, int(port)))
        except OSError:
            return False
    return True


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_server_on_a_taken_port_fails_and_names_it() -> None:
    with RunningServer(*CHEAP) as first:
        urls = {"--grpc-port": first.address, "--http-port": first.http_url, "--metrics-port": first.metrics_url}
        for flag, url in urls.items():
            port = url.rpartition(":")[2]
            with RunningServer(*CHEAP, flag, port, wait=False) as second:
                assert second.process.wait(30) == 1
                assert f"127.0.0.1:{port}" in second.log
                assert flag in second.log
                assert "Traceback" not in second.log


def test_a_model_that_cannot_be_loaded_is_named_and_ends_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(b"not a model")
    with RunningServer(repository=tmp_path, wait=False) as server:
        assert server.process.wait(60) == 1
        assert "no model can be served: broken" in server.log
        assert "model.onnx" in server.log


def test_a_broken_model_does_not_keep_others_from_being_served(tmp_path: Path) -> None:
    (tmp_path / "repvgg_digits").symlink_to(DIGITS)
    (tmp_path / "absent").mkdir()
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "model.toml").write_text("max_batch_size = 0\n")
    with RunningServer(repository=tmp_path) as server:
        models = {model.name: model for model in server.stub().ListModels(pb.ListModelsRequest(), timeout=10).models}
        assert models["repvgg_digits"].ready
        assert "it has no version yet" in models["absent"].reason
        assert "max_batch_size" in models["wrong"].reason
        server.stub().Classify(pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes()), timeout=10)
        absent = pb.ClassifyRequest(model="absent", encoded_image=b"x")
        code, message = refusal(lambda: server.stub().Classify(absent, timeout=10))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "it has no version yet" in message


def test_orphans_of_a_killed_supervisor_end_even_when_frozen() -> None:
    with RunningServer(*CHEAP) as server:
        family = server.family()
        (worker,) = server.children("worker")
        worker.suspend()
        server.signal_and_wait(signal.SIGKILL)
        wait_until(lambda: not any(_alive(process) for process in family), "every process has ended", 10)


def test_settings_come_from_flags_then_environment_then_file(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('max_queue_size = 11\nmax_batch_size = 2\nprecision = "f32"\n')
    environment = {"REPSERVE_MAX_QUEUE_SIZE": "22", "REPSERVE_MAX_BATCH_SIZE": "4"}
    with RunningServer("--config", str(file), "--max-queue-size", "33", *CHEAP, environment=environment) as server:
        (line,) = [line for line in server.log.splitlines() if "settings:" in line]
        assert "max_queue_size = 33" in line
        assert "max_batch_size = 4" in line
        assert "precision = f32" in line


def test_a_wrong_setting_is_named_without_a_traceback() -> None:
    with RunningServer(environment={"REPSERVE_MAX_QUEUE_SIZE": "many"}, wait=False) as server:
        assert server.process.wait(30) == 1
        assert "max_queue_size" in server.log
        assert "Traceback" not in server.log


def test_the_ready_file_goes_with_the_server(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with RunningServer(*CHEAP, "--ready-file", str(ready), wait=False) as server:
        wait_until(ready.exists, "the ready file is there", 60)
        assert server.signal_and_wait(signal.SIGTERM) == 0
    assert not ready.exists()


def test_a_server_whose_ready_file_cannot_be_written_serves_all_the_same() -> None:
    with RunningServer(*CHEAP, "--ready-file", "/proc/none/ready.json", wait=False) as server:
        wait_until(lambda: "the ready file cannot be written" in server.log, "the ready file is tried", 60)
        assert server.signal_and_wait(signal.SIGTERM) == 0
        assert "drained: every request" in server.log


def test_models_lists_what_can_be_served() -> None:
    listed = subprocess.run(
        [repserve(), "models", "--model-repository", str(DIGITS.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "repvgg_digits  version 1" in listed
    assert "repvgg_a0" in listed
