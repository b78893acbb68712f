"""What happens when things die, hang, crash or are too many."""

from __future__ import annotations

import functools
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from repserve_client import Client, ResourceExhaustedError
from repserve_client.errors import from_rpc_error
from repserve_protos.v1 import classification_pb2 as pb
from support.devices import take_time
from support.digits_server import SLOT_KINDS, digits_server
from support.faulty_runtimes import CRASH, FAIL, HANG, LOSE_DEVICE, NOT_A_NUMBER
from support.harness import DIGITS, RunningServer, card_predictions, digit_files, refusal, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

FAULTY = ("--model", "faulty", "--runtime", "support.faulty_runtimes:FaultyRuntime")


@pytest.fixture
def faulty_repository(tmp_path: Path) -> Path:
    (tmp_path / "faulty" / "1").mkdir(parents=True)
    (tmp_path / "faulty" / "1" / "model.onnx").touch()
    return tmp_path


def _image(order: int) -> pb.ClassifyRequest:
    pixels = np.full((224, 224, 3), 1, np.uint8)
    pixels[0, 0, 0] = order
    return pb.ClassifyRequest(pixels=pb.Pixels(count=1, data=pixels.tobytes()))


@pytest.mark.parametrize("kind", SLOT_KINDS)
def test_a_killed_worker_costs_no_request(kind: str, tmp_path: Path) -> None:
    """The worker dies twice among the requests: each is answered, and answered right."""
    predictions, files = card_predictions(), digit_files()
    images = [(file.name, file.read_bytes()) for file in files]
    count, kills = 2 * len(files), (len(files) // 2, len(files))
    with digits_server(kind, tmp_path) as server:
        before = {worker.pid for worker in server.children("worker")}
        with Client(server.address) as client:
            replay = [images[i % len(images)] for i in range(count)]
            answers = 0
            outcomes = client.classify_stream((data for _, data in replay), window=32, timeout=60)
            for (name, _), outcome in zip(replay, outcomes, strict=True):
                assert not isinstance(outcome, Exception), outcome
                assert outcome.predictions[0].classes[0].index == predictions[name]
                answers += 1
                if answers in kills:
                    for worker in server.children("worker"):
                        worker.kill()
            assert answers == count
        wait_until(lambda: len(server.children("worker")) == 1, "the worker is back")
        assert not before & {worker.pid for worker in server.children("worker")}
        assert server.metric("repserve_restarts_total", role="worker") == 2
        assert server.metric("repserve_images_total") >= count


@pytest.mark.parametrize("kind", SLOT_KINDS)
def test_a_worker_that_was_stopped_and_killed_hands_its_images_on(kind: str, tmp_path: Path) -> None:
    """The worker is frozen with images in its hands, so that they surely are there when it dies."""
    with digits_server(kind, tmp_path) as server:
        (worker,) = server.children("worker")
        worker.suspend()
        stub = server.stub()
        calls = [
            stub.Classify.future(pb.ClassifyRequest(encoded_image=file.read_bytes()), timeout=60)
            for file in digit_files()[:16]
        ]
        wait_until(lambda: server.metric("repserve_queue_images") == 16, "the images wait for the worker")
        worker.kill()
        predictions = card_predictions()
        for file, call in zip(digit_files(), calls, strict=False):
            assert call.result(60).predictions[0].classes[0].index == predictions[file.name]


def test_a_poison_image_is_given_up_and_the_others_succeed(faulty_repository: Path) -> None:
    with RunningServer(*FAULTY, repository=faulty_repository) as server:
        stub = server.stub()
        orders = [CRASH if i == 11 else i for i in range(32)]
        calls = [stub.Classify.future(_image(order), timeout=60) for order in orders]
        for order, call in zip(orders, calls, strict=True):
            if order == CRASH:
                code, message = refusal(call.result)
                assert code is grpc.StatusCode.INTERNAL
                assert "crashes" in message
            else:
                assert call.result(60).predictions[0].classes[0].index == order % 4
        assert server.metric("repserve_poison_images_total") == 1
        assert "sha256" in server.log
        restarts = server.metric("repserve_restarts_total", role="worker")
        for order in range(40):
            assert stub.Classify(_image(order), timeout=30).predictions[0].classes[0].index == order % 4
        assert server.metric("repserve_restarts_total", role="worker") == restarts


def test_a_supervisor_that_was_stopped_blames_nobody(faulty_repository: Path) -> None:
    with RunningServer(*FAULTY, "--liveness-timeout-seconds", "3", repository=faulty_repository) as server:
        supervisor, (worker,) = server.family()[0], server.children("worker")
        worker.suspend()
        server.metric("repserve_images_total")  # A scrape asks the worker, which does not answer.
        supervisor.suspend()
        take_time(4.0)  # longer than a worker may be silent
        supervisor.resume()
        server.metric("repserve_images_total")
        worker.resume()
        assert server.stub().Classify(_image(1), timeout=30).predictions[0].classes[0].index == 1
        assert server.metric("repserve_hung_processes_total") == 0
        assert server.metric("repserve_restarts_total") == 0


def test_a_frontend_that_hangs_is_replaced(faulty_repository: Path) -> None:
    with RunningServer(*FAULTY, "--liveness-timeout-seconds", "1", repository=faulty_repository) as server:
        assert server.stub().Classify(_image(1), timeout=30).predictions[0].classes[0].index == 1
        (frontend,) = server.children("frontend")
        frontend.suspend()
        wait_until(lambda: server.metric("repserve_hung_processes_total", role="frontend") == 1, "it is killed")
        assert "has not answered for" in server.log
        reply = server.stub().Classify(_image(2), timeout=30, wait_for_ready=True)
        assert reply.predictions[0].classes[0].index == 2
        assert server.metric("repserve_restarts_total", role="frontend") == 1


@pytest.mark.parametrize(("fault", "log"), [(HANG, "has not answered for"), (LOSE_DEVICE, "its device failed")])
def test_an_image_that_makes_a_run_hang_or_the_device_fail_is_given_up_and_the_others_succeed(
    faulty_repository: Path, fault: int, log: str
) -> None:
    with RunningServer(*FAULTY, "--liveness-timeout-seconds", "1", repository=faulty_repository) as server:
        stub = server.stub()
        orders = [fault if i == 5 else i for i in range(16)]
        calls = [stub.Classify.future(_image(order), timeout=60) for order in orders]
        for order, call in zip(orders, calls, strict=True):
            if order == fault:
                code, message = refusal(call.result)
                assert code is grpc.StatusCode.INTERNAL
                assert "2 crashes" in message
            else:
                assert call.result(60).predictions[0].classes[0].index == order % 4
        assert log in server.log
        assert server.metric("repserve_hung_processes_total", role="worker") == (2 if fault == HANG else 0)
        wait_until(lambda: server.metric("repserve_restarts_total", role="worker") == 2, "two restarts are counted")


def test_one_image_of_a_failed_run_is_to_blame_and_the_others_are_answered(faulty_repository: Path) -> None:
    """The worker is frozen while they arrive, so that they surely are one batch."""
    with RunningServer(*FAULTY, repository=faulty_repository) as server:
        (worker,) = server.children("worker")
        worker.suspend()
        stub = server.stub()
        orders = [FAIL if i == 7 else i for i in range(16)]
        calls = [stub.Classify.future(_image(order), timeout=60) for order in orders]
        wait_until(lambda: server.metric("repserve_queue_images") == 16, "the images wait")
        worker.resume()
        for order, call in zip(orders, calls, strict=True):
            if order == FAIL:
                assert refusal(call.result)[0] is grpc.StatusCode.INTERNAL
            else:
                assert call.result(60).predictions[0].classes[0].index == order % 4
        assert server.children("worker") == [worker]
        assert server.metric("repserve_failed_runs_total") == 2


def test_a_failed_run_and_a_score_that_is_no_number_are_internal_errors(faulty_repository: Path) -> None:
    with RunningServer(*FAULTY, repository=faulty_repository) as server:
        stub = server.stub()
        for order, words in ((FAIL, "device failed"), (NOT_A_NUMBER, "not all finite")):
            code, message = refusal(functools.partial(stub.Classify, _image(order), timeout=30))
            assert code is grpc.StatusCode.INTERNAL
            assert words in message
        assert stub.Classify(_image(3), timeout=30).predictions[0].classes[0].index == 3
        assert len(server.children("worker")) == 1


def test_a_full_queue_says_when_to_come_back() -> None:
    with RunningServer("--model", "repvgg_digits", "--device", "sim:310", "--max-queue-size", "32") as server:
        (worker,) = server.children("worker")
        worker.suspend()
        stub = server.stub()
        # The last eighth is not for a client that holds most already.
        waiting = [stub.Classify.future(_image(1), timeout=60) for _ in range(28)]
        wait_until(lambda: server.metric("repserve_queue_images") == 28, "the queue is full")
        with pytest.raises(grpc.RpcError) as refusal:
            stub.Classify(_image(1), timeout=60)
        error = from_rpc_error(refusal.value)
        assert isinstance(error, ResourceExhaustedError)
        assert error.retry_after is not None
        assert 0 < error.retry_after < 10
        worker.resume()
        for call in waiting:
            assert call.result(60).predictions
        with Client(server.address) as client:
            assert client.classify(np.zeros((224, 224, 3), np.uint8)).predictions


def test_cancelled_and_expired_images_leave_the_queue() -> None:
    with RunningServer("--model", "repvgg_digits", "--device", "sim:310p") as server:
        (worker,) = server.children("worker")
        worker.suspend()
        stub = server.stub()
        cancelled = [stub.Classify.future(_image(1), timeout=60) for _ in range(8)]
        expiring = [stub.Classify.future(_image(1), timeout=0.5) for _ in range(8)]
        wait_until(lambda: server.metric("repserve_queue_images") == 16, "the images wait")
        for call in cancelled:
            call.cancel()  # type: ignore[no-untyped-call]
        for call in expiring:
            assert refusal(call.result)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        for code in ("CANCELLED", "DEADLINE_EXCEEDED"):
            wait_until(
                lambda code=code: server.metric("repserve_requests_total", code=code) == 8,  # type: ignore[misc]
                "the frontend saw them end",
            )
        worker.resume()
        wait_until(lambda: server.metric("repserve_queue_images") == 0, "their slots are free")
        dropped = server.metric("repserve_dropped_images_total")
        assert dropped == 16
        assert server.metric("repserve_batch_size_sum") == 0
        assert stub.Classify(_image(1), timeout=20).predictions


def test_a_dead_frontend_is_replaced_on_the_same_port() -> None:
    with RunningServer("--model", "repvgg_digits", "--precision", "f32", "--frontends", "2") as server:
        file = digit_files()[0]
        first = server.children("frontend")
        assert len(first) == 2
        with Client(server.address, channels=4) as client:
            assert client.classify(file.read_bytes()).predictions
            for frontend in first:
                frontend.kill()
            answer = client.classify(file.read_bytes(), timeout=30)
            assert answer.predictions[0].classes[0].index == card_predictions()[file.name]
        wait_until(lambda: len(server.children("frontend")) == 2, "both frontends are back")
        assert len(server.children("worker")) == 1


@pytest.mark.parametrize("kind", SLOT_KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_sigterm_answers_what_was_taken_and_refuses_the_rest(kind: str, tmp_path: Path, *, streamed: bool) -> None:
    """The worker is frozen while requests arrive and the server is told to end, so that they surely wait."""
    with digits_server(kind, tmp_path) as server, ThreadPoolExecutor(1) as pool:
        (worker,) = server.children("worker")
        worker.suspend()
        stub, files = server.stub(), digit_files()[:24]
        requests = [pb.ClassifyRequest(encoded_image=file.read_bytes()) for file in files]
        late = threading.Event()
        if streamed:
            streaming = pool.submit(_collect, stub, requests, late)
        else:
            calls = [stub.Classify.future(request, timeout=60) for request in requests]
        wait_until(lambda: server.metric("repserve_queue_images") == len(files), "the images wait")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "draining" in server.log, "the drain begins")
        wait_until(lambda: _refuses(server), "new requests are refused")
        late.set()
        worker.resume()
        predictions = card_predictions()
        if streamed:
            answers = streaming.result(60)
            assert answers.pop(99, None) in (None, "UNAVAILABLE")
            assert answers == {i: predictions[file.name] for i, file in enumerate(files)}
        else:
            for file, call in zip(files, calls, strict=True):
                assert call.result(60).predictions[0].classes[0].index == predictions[file.name]
        assert server.process.wait(40) == 0


def _collect(stub: object, requests: list[pb.ClassifyRequest], late: threading.Event) -> dict[int, int | str]:
    """Stream the requests, one more when told, and return each answer's class or status name."""

    def items() -> Iterator[pb.ClassifyStreamRequest]:
        for i, request in enumerate(requests):
            yield pb.ClassifyStreamRequest(id=i, request=request)
        assert late.wait(30)
        yield pb.ClassifyStreamRequest(id=99, request=requests[0])

    answers: dict[int, int | str] = {}
    try:
        for answer in stub.ClassifyStream(items(), timeout=60):  # type: ignore[attr-defined]
            if answer.HasField("response"):
                answers[answer.id] = answer.response.predictions[0].classes[0].index
            else:
                answers[answer.id] = next(c.name for c in grpc.StatusCode if c.value[0] == answer.status.code)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - the stream may end so, or well
    return answers


def _refuses(server: RunningServer) -> bool:
    return refusal(lambda: server.stub().Classify(_image(1), timeout=1))[0] is grpc.StatusCode.UNAVAILABLE


def test_workers_of_one_model_that_disagree_do_not_share_its_slots(tmp_path: Path) -> None:
    """Without labels, the simulated worker makes up a thousand classes, and the real model has ten."""
    version = tmp_path / "digits" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").symlink_to(DIGITS / "1" / "model.onnx")
    with RunningServer("--device", "cpu,sim:310p", "--precision", "f32", repository=tmp_path) as server:
        wait_until(lambda: "cannot serve" in server.log, "one of the two is refused")
        (model,) = server.stub().ListModels(pb.ListModelsRequest(), timeout=10).models
        (instance,) = model.instances
        assert (instance.simulated, model.classes) in {(True, 1000), (False, 10)}
