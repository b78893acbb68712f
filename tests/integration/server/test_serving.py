"""One server, asked in every way that repserve.v1 has."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from repserve_protos.v1 import classification_pb2 as pb
from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.preprocessing import Preprocessing
from support.digits_server import INSTANCES
from support.harness import RunningServer, card_predictions, digit_files, refusal, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


def _pixels(count: int) -> bytes:
    images = np.zeros((count, 224, 224, 3), np.uint8)
    for row, file in zip(images, digit_files(), strict=False):
        preprocess_into(file.read_bytes(), Preprocessing(), row)
    return images.tobytes()


def test_an_image_is_classified_as_the_trained_network_does(digits: RunningServer) -> None:
    predictions = card_predictions()
    stub = digits.stub()
    for file in digit_files()[:20]:
        answer = stub.Classify(pb.ClassifyRequest(encoded_image=file.read_bytes(), top_k=3), timeout=10)
        (prediction,) = answer.predictions
        assert prediction.classes[0].index == predictions[file.name]
        assert (answer.model, answer.version) == ("repvgg_digits", "1")
        assert len(prediction.classes) == 3
        probabilities = [ranked.probability for ranked in prediction.classes]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1.0001
        assert prediction.classes[0].label
        assert answer.decode_microseconds > 0
        assert prediction.compute_microseconds > 0
        assert prediction.batch_size >= 1


def test_pixels_give_the_answers_of_the_encoded_images(digits: RunningServer) -> None:
    stub = digits.stub()
    request = pb.ClassifyRequest(pixels=pb.Pixels(count=16, data=_pixels(16)), model="repvgg_digits", version="1")
    answer = stub.Classify(request, timeout=10)
    predictions = card_predictions()
    expected = [predictions[file.name] for file in digit_files()[:16]]
    assert [prediction.classes[0].index for prediction in answer.predictions] == expected
    assert answer.decode_microseconds == 0


def test_top_k_is_five_by_default_and_at_most_the_classes(digits: RunningServer) -> None:
    stub, image = digits.stub(), digit_files()[0].read_bytes()
    assert len(stub.Classify(pb.ClassifyRequest(encoded_image=image), timeout=10).predictions[0].classes) == 5
    every = stub.Classify(pb.ClassifyRequest(encoded_image=image, top_k=1000), timeout=10).predictions[0].classes
    assert sorted(ranked.index for ranked in every) == list(range(10))
    assert sum(ranked.probability for ranked in every) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (pb.ClassifyRequest(), grpc.StatusCode.INVALID_ARGUMENT, "no input"),
        (pb.ClassifyRequest(encoded_image=b""), grpc.StatusCode.INVALID_ARGUMENT, "empty"),
        (pb.ClassifyRequest(encoded_image=b"GIF89a..."), grpc.StatusCode.INVALID_ARGUMENT, "GIF"),
        (pb.ClassifyRequest(model="nix", encoded_image=b"x"), grpc.StatusCode.NOT_FOUND, "'nix'"),
        (
            pb.ClassifyRequest(model="repvgg_digits", version="9", encoded_image=b"x"),
            grpc.StatusCode.NOT_FOUND,
            "version '9'",
        ),
        (pb.ClassifyRequest(pixels=pb.Pixels(count=0)), grpc.StatusCode.INVALID_ARGUMENT, "has no image"),
        (
            pb.ClassifyRequest(pixels=pb.Pixels(count=600)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "0 bytes; expected 90316800 (600 x 224",
        ),
        (
            pb.ClassifyRequest(pixels=pb.Pixels(count=2, data=b"12345")),
            grpc.StatusCode.INVALID_ARGUMENT,
            "5 bytes; expected 301056 (2 x 224 x 224 x 3 uint8 values)",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    digits: RunningServer, request_: pb.ClassifyRequest, code: grpc.StatusCode, words: str
) -> None:
    status, message = refusal(lambda: digits.stub().Classify(request_, timeout=10))
    assert status is code
    assert words in message


def test_one_corrupt_image_of_32_fails_alone(digits: RunningServer) -> None:
    stub, predictions = digits.stub(), card_predictions()
    files = digit_files()[:32]
    requests = [pb.ClassifyRequest(encoded_image=file.read_bytes()) for file in files]
    requests[7].encoded_image = requests[7].encoded_image[:300]
    calls = [stub.Classify.future(request, timeout=20) for request in requests]
    for position, (file, call) in enumerate(zip(files, calls, strict=True)):
        if position == 7:
            code, message = refusal(call.result)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "JPEG image cannot be decoded: Truncated" in message
        else:
            assert call.result(20).predictions[0].classes[0].index == predictions[file.name]


def test_a_bad_image_does_not_end_a_stream(digits: RunningServer) -> None:
    predictions, files = card_predictions(), digit_files()[:60]
    requests = [
        pb.ClassifyStreamRequest(id=1000 + i, request=pb.ClassifyRequest(encoded_image=file.read_bytes()))
        for i, file in enumerate(files)
    ]
    requests[5].request.encoded_image = b"not an image"
    requests[9].request.model = "nix"
    answers = {answer.id: answer for answer in digits.stub().ClassifyStream(iter(requests), timeout=30)}
    assert sorted(answers) == [request.id for request in requests]
    assert answers[1005].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answers[1009].status.code == grpc.StatusCode.NOT_FOUND.value[0]
    for i, file in enumerate(files):
        if i not in (5, 9):
            assert answers[1000 + i].response.predictions[0].classes[0].index == predictions[file.name]


def test_a_stream_answers_while_requests_still_come(digits: RunningServer) -> None:
    answered = threading.Event()

    def requests() -> Iterator[pb.ClassifyStreamRequest]:
        yield pb.ClassifyStreamRequest(id=1, request=pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes()))
        assert answered.wait(20)
        yield pb.ClassifyStreamRequest(id=2, request=pb.ClassifyRequest(encoded_image=digit_files()[1].read_bytes()))

    ids = []
    for answer in digits.stub().ClassifyStream(requests(), timeout=30):
        ids.append(answer.id)
        answered.set()
    assert ids == [1, 2]


def test_models_are_listed_with_what_runs_them(digits: RunningServer, kind: str) -> None:
    (model,) = digits.stub().ListModels(pb.ListModelsRequest(), timeout=10).models
    assert (model.name, model.version, model.ready, model.crop, model.classes) == ("repvgg_digits", "1", True, 224, 10)
    (instance,) = model.instances
    sizes = tuple(cost.batch_size for cost in instance.batch_costs)
    assert (instance.device, instance.backend, instance.precision, sizes) == INSTANCES[kind]
    assert not instance.simulated
    assert all(cost.microseconds > 0 for cost in instance.batch_costs)


def test_health_is_served_for_the_server_the_service_and_each_model(digits: RunningServer) -> None:
    stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(digits.address))
    for service in ("", "repserve.v1.Classification", "repvgg_digits"):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(health_pb2.HealthCheckRequest(service="nix"), timeout=10)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_names_the_services(digits: RunningServer) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(grpc.insecure_channel(digits.address))
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (reply,) = stub.ServerReflectionInfo(asked, timeout=10)
    names = {service.name for service in reply.list_services_response.service}
    assert {"repserve.v1.Classification", "grpc.health.v1.Health"} <= names


def test_metrics_count_what_was_asked(digits: RunningServer, kind: str) -> None:
    images, requests = digits.metric("repserve_images_total"), digits.metric("repserve_requests_total", code="OK")
    refused = digits.metric("repserve_rejected_images_total", kind="corrupt")
    stub = digits.stub()
    for file in digit_files()[:3]:
        stub.Classify(pb.ClassifyRequest(encoded_image=file.read_bytes()), timeout=10)
    stub.Classify(pb.ClassifyRequest(pixels=pb.Pixels(count=4, data=_pixels(4))), timeout=10)
    with pytest.raises(grpc.RpcError):
        stub.Classify(pb.ClassifyRequest(encoded_image=digit_files()[0].read_bytes()[:200]), timeout=10)
    assert digits.metric("repserve_images_total") - images == 7
    assert digits.metric("repserve_requests_total", code="OK") - requests == 4
    assert digits.metric("repserve_rejected_images_total", kind="corrupt") - refused == 1
    device, backend, precision, _ = INSTANCES[kind]
    info = {"device": device, "backend": backend, "precision": precision, "simulated": "false"}
    assert digits.metric("repserve_instance_info", **info) == 1
    assert digits.metric("repserve_process_cpu_seconds_total", role="worker") > 0


def test_a_large_message_is_taken(digits: RunningServer) -> None:
    padded = digit_files()[0].read_bytes() + bytes(6 * 1024 * 1024)
    answer = digits.stub().Classify(pb.ClassifyRequest(encoded_image=padded), timeout=20)
    assert answer.predictions[0].classes[0].index == card_predictions()[digit_files()[0].name]


def test_a_deadline_that_has_passed_is_answered_as_such(digits: RunningServer) -> None:
    started = time.monotonic()
    request = pb.ClassifyStreamRequest(
        id=1, request=pb.ClassifyRequest(pixels=pb.Pixels(count=16, data=_pixels(16))), timeout_milliseconds=1
    )
    (answer,) = digits.stub().ClassifyStream(iter([request]), timeout=20)
    assert answer.status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert time.monotonic() - started < 5


def test_urgent_requests_go_before_those_that_wait() -> None:
    with RunningServer("--model", "repvgg_digits", "--device", "sim:310", "--max-batch-size", "1") as server:
        (worker,) = server.children("worker")
        worker.suspend()
        stub, order = server.stub(), list[str]()
        image = pb.Pixels(count=1, data=bytes(224 * 224 * 3))

        def send(name: str, priority: pb.Priority) -> Any:  # noqa: ANN401
            call = stub.Classify.future(pb.ClassifyRequest(pixels=image, priority=priority), timeout=60)
            call.add_done_callback(lambda _: order.append(name))
            return call

        normal = [send("normal", pb.PRIORITY_NORMAL) for _ in range(24)]
        wait_until(lambda: server.metric("repserve_queue_images") == 24, "the others wait")
        urgent = [send("urgent", pb.PRIORITY_HIGH) for _ in range(4)]
        wait_until(lambda: server.metric("repserve_queue_images") == 28, "all wait")
        worker.resume()
        for call in (*normal, *urgent):
            assert call.result(60).predictions
        wait_until(lambda: len(order) == 28, "all are answered")
        # One run may have begun before; callbacks run in several threads.
        assert order[:8].count("urgent") == 4
