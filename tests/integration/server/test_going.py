"""How the server goes, what health says meanwhile, and calls that outlive the only frontend."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from repserve_client import Client
from repserve_protos.v1 import classification_pb2 as pb
from repserve_protos.v1.classification_pb2_grpc import ClassificationStub
from support.harness import MODEL_REPOSITORY, RunningServer, digit_files, refusal, wait_until

SERVING, NOT_SERVING = 1, 2
CHEAP = ("--model", "repvgg_digits", "--device", "sim:310p")
"""What the model runs on does not matter here; this loads at once."""
NAMES = ("", "repserve.v1.Classification", "inference.GRPCInferenceService", "repvgg_digits")


class Watcher:
    """A client that watches a service; a thread keeps what it is told."""

    def __init__(self, server: RunningServer, service: str) -> None:
        self._channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._call: Any = HealthStub(self._channel).Watch(health_pb2.HealthCheckRequest(service=service))
        self.told: queue.Queue[int] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self.told.put(response.status)
        except grpc.RpcError:
            return

    def next(self) -> int:
        return self.told.get(timeout=30)


def http_ready(server: RunningServer) -> bool:
    try:
        with urllib.request.urlopen(f"{server.metrics_url}/health/ready", timeout=10) as reply:  # noqa: S310 - our own
            return bool(reply.status == 200)
    except urllib.error.HTTPError:
        return False


def image() -> pb.ClassifyRequest:
    return pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes())


def test_every_watcher_sees_a_worker_die_and_come_back() -> None:
    with RunningServer(*CHEAP, "--frontends", "2") as server:
        watchers = [Watcher(server, name) for name in ("repvgg_digits", "repvgg_digits", "", "repvgg_digits")]
        assert [watcher.next() for watcher in watchers] == [SERVING] * 4
        server.children("worker")[0].kill()
        assert [watcher.next() for watcher in watchers] == [NOT_SERVING] * 4
        assert [watcher.next() for watcher in watchers] == [SERVING] * 4


def test_after_sigterm_it_is_not_ready_first_and_serves_on_for_a_while() -> None:
    with RunningServer(*CHEAP, "--shutdown-delay-seconds", "3") as server:
        watchers = [Watcher(server, name) for name in NAMES]
        assert [watcher.next() for watcher in watchers] == [SERVING] * len(NAMES)
        stub = server.stub()
        server.process.send_signal(signal.SIGTERM)
        assert [watcher.next() for watcher in watchers] == [NOT_SERVING] * len(NAMES)
        assert not http_ready(server)
        assert stub.Classify(image(), timeout=10).predictions, "load balancers have not noticed yet"
        wait_until(lambda: "draining" in server.log, "the drain begins")
        assert server.process.wait(20) == 0
        assert "drained: every request under way was answered" in server.log


def test_ctrl_c_and_a_second_signal_do_not_wait_for_load_balancers() -> None:
    for numbers in ((signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)):
        with RunningServer(*CHEAP, "--shutdown-delay-seconds", "600") as server:
            server.process.send_signal(numbers[0])
            if len(numbers) > 1:
                wait_until(lambda: "requests are taken for another" in server.log, "the grace begins")
                server.process.send_signal(numbers[1])
            server.process.wait(20)


def test_the_log_says_what_was_dropped_when_the_time_is_over() -> None:
    with RunningServer("--model", "repvgg_digits", "--device", "sim:310", "--exit-timeout-seconds", "0.5") as server:
        server.children("worker")[0].suspend()
        pixels = pb.Pixels(count=3, data=bytes(3 * 224 * 224 * 3))
        calls = [server.stub().Classify.future(pb.ClassifyRequest(pixels=pixels), timeout=60) for _ in range(2)]
        wait_until(lambda: server.metric("repserve_queue_images") == 6, "the images wait")
        assert server.signal_and_wait(signal.SIGTERM) == 1
        assert "2 requests are dropped unanswered: 6 images of model repvgg_digits version 1" in server.log
        for call in calls:
            assert refusal(call.result)[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


RETRIES = """{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.5s",
    "maxBackoff": "2s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"""


def test_calls_in_flight_when_the_only_frontend_dies_are_answered_by_the_next_on_a_retry() -> None:
    """The worker is frozen, so that the calls of gRPC's own retry surely are in flight."""
    with RunningServer(*CHEAP, "--frontends", "1") as server:
        (frontend,), (worker,) = server.children("frontend"), server.children("worker")
        worker.suspend()
        with grpc.insecure_channel(server.address, options=[("grpc.service_config", RETRIES)]) as channel:
            stub = ClassificationStub(channel)
            calls = [stub.Classify.future(image(), timeout=30) for _ in range(8)]
            wait_until(lambda: server.metric("repserve_queue_images") == 8, "the images wait")
            frontend.kill()
            worker.resume()
            for call in calls:
                assert call.result(30).predictions


def test_a_call_begun_while_the_only_frontend_is_dead_waits_for_the_next() -> None:
    with RunningServer(*CHEAP, "--frontends", "1") as server:
        for _ in range(3):
            (frontend,) = server.children("frontend")
            frontend.kill()
            frontend.wait(10)
            assert server.stub().Classify(image(), timeout=20, wait_for_ready=True).predictions
        wait_until(lambda: http_ready(server), "the server is ready again")


def test_a_client_that_retries_sees_no_failure_when_frontends_die_under_load() -> None:
    with RunningServer(*CHEAP, "--frontends", "1") as server, Client(server.address) as client:
        stop, failures, answers = threading.Event(), list[Exception](), list[int]()

        def work() -> None:
            while not stop.is_set():
                try:
                    answers.append(len(client.classify(np.zeros((224, 224, 3), np.uint8), timeout=30).predictions))
                except Exception as error:  # noqa: BLE001 - what the test is about
                    failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            count = len(answers)
            wait_until(lambda count=count: len(answers) > count + 50, "answers come")  # type: ignore[misc]
            server.children("frontend")[0].kill()
            wait_until(lambda: bool(server.children("frontend")), "a frontend is started")
        count = len(answers)
        wait_until(lambda: len(answers) > count + 50, "answers come again")
        stop.set()
        for thread in threads:
            thread.join(60)
        assert failures == []


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_closed_standard_descriptors_do_no_harm(closed: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    command = (
        f"exec {sys.executable} -m repserve_client.cli serve --model-repository {MODEL_REPOSITORY} "
        f"--model repvgg_digits --device sim:310p --host 127.0.0.1 --grpc-port 0 --http-port 0 --metrics-port 0 "
        f"--shutdown-delay-seconds 0 --ready-file {ready} {closed}"
    )
    process = subprocess.Popen(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: process.poll() is not None or ready.exists(), "the server is ready", 60)
    finally:
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "Traceback" not in log
