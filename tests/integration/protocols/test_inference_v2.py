"""KServe v2 over gRPC where no client library goes: what is refused, broken streams, and state that is server-wide."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from repserve_protos.inference import grpc_service_pb2 as pb
from repserve_protos.inference.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from repserve_server.imaging.decode import preprocess_into
from repserve_server.imaging.normalise import normalise
from repserve_server.imaging.preprocessing import Preprocessing
from support.digits_server import digits_server
from support.harness import RunningServer, card_predictions, digit_files, refusal, wait_until
from support.versioned_runtime import expected_class, make_model

RUNTIME = ("--runtime", "support.versioned_runtime:Runtime")
PREPROCESSING = Preprocessing()
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("repository")
    make_model(repository, 1)
    with RunningServer(*RUNTIME, "--frontends", "2", repository=repository) as running:
        yield running


def connect(server: RunningServer) -> GRPCInferenceServiceStub:
    """On a connection of its own, so that the kernel may give it to either frontend."""
    channel = grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])
    return GRPCInferenceServiceStub(channel)


def pixels(value: int = 3, count: int = 1) -> bytes:
    return np.full((count, 8, 8, 3), value, np.uint8).tobytes()


def request(value: int = 3, count: int = 1, name: str = "x") -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="INPUT", datatype="UINT8", shape=[count, 8, 8, 3])
    return pb.ModelInferRequest(
        model_name="versioned", id=name, inputs=[tensor], raw_input_contents=[pixels(value, count)]
    )


def best(response: pb.ModelInferResponse) -> list[int]:
    scores = np.frombuffer(response.raw_output_contents[0], np.float32).reshape(response.outputs[0].shape)
    return [int(index) for index in scores.argmax(axis=1)]


def changed(**parts: Any) -> pb.ModelInferRequest:  # noqa: ANN401
    message = request()
    for name, value in parts.items():
        message.ClearField(name)
        getattr(message, name).extend(value)
    return message


def with_parameter(name: str, **value: Any) -> pb.ModelInferRequest:  # noqa: ANN401
    message = request()
    message.parameters[name].CopyFrom(pb.InferParameter(**value))
    return message


def with_contents() -> pb.ModelInferRequest:
    message = request()
    message.inputs[0].contents.uint_contents.extend([1, 2, 3])
    return message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (with_contents(), "has typed contents; send its bytes in raw_input_contents"),
        (changed(raw_input_contents=[]), "has no entry in raw_input_contents"),
        (changed(raw_input_contents=[pixels(), b""]), "has 2 raw_input_contents for 1 inputs"),
        (changed(raw_input_contents=[b"123"]), "have 3 bytes"),
        (with_parameter("sequence_id", int64_param=7), "'sequence_id' is for stateful models"),
        (with_parameter("priority", string_param="high"), "'priority' is 'high'; expected a whole number"),
        (with_parameter("timeout", int64_param=-1), "'timeout' is -1"),
    ],
)
def test_what_no_client_library_sends_is_refused(
    server: RunningServer, message: pb.ModelInferRequest, words: str
) -> None:
    code, said = refusal(lambda: connect(server).ModelInfer(message, timeout=10))
    assert code is INVALID
    assert words in said


def test_a_sequence_that_is_none_is_no_sequence(server: RunningServer) -> None:
    assert best(connect(server).ModelInfer(with_parameter("sequence_id", int64_param=0), timeout=10)) == [
        expected_class(3, 1)
    ]


def test_a_stream_marks_its_last_answers_when_it_is_asked_to(server: RunningServer) -> None:
    message = request(5, 2, "seven")
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    (answer,) = connect(server).ModelStreamInfer(iter([message]), timeout=10)
    assert answer.infer_response.id == "seven"
    assert answer.infer_response.parameters["triton_final_response"].bool_param
    assert best(answer.infer_response) == [expected_class(5, 1)] * 2


def test_half_sent_streams_leave_nothing_behind(server: RunningServer) -> None:
    def endless() -> Iterator[pb.ModelInferRequest]:
        number = 0
        while True:
            number += 1
            yield request(number % 200, 1 + number % 3, str(number))

    for _ in range(5):
        call: Any = connect(server).ModelStreamInfer(endless(), timeout=30)
        for _ in range(10):
            next(call)
        call.cancel()
    wait_until(lambda: server.metric("repserve_queue_images") == 0, "every slot is free")
    assert best(connect(server).ModelInfer(request(9), timeout=10)) == [expected_class(9, 1)]


def count(server: RunningServer) -> int:
    (entry,) = connect(server).ModelStatistics(pb.ModelStatisticsRequest(name="versioned"), timeout=10).model_stats
    return entry.inference_count


def test_statistics_count_what_every_frontend_answered_and_one_that_died(server: RunningServer) -> None:
    before = count(server)
    for _ in range(8):
        connect(server).ModelInfer(request(count=2), timeout=10)
    assert [count(server) for _ in range(4)] == [before + 16] * 4
    server.children("frontend")[0].kill()
    wait_until(lambda: len(server.children("frontend")) == 2, "it is replaced")
    wait_until(lambda: _counts(server) == before + 16, "the total did not fall")


def _counts(server: RunningServer) -> int:
    try:
        return count(server)
    except grpc.RpcError:
        return -1


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    made = SharedMemory(f"repserve-test-{uuid.uuid4()}", create=True, size=4096)
    yield made
    made.close()
    made.unlink()


def test_a_region_is_known_to_every_frontend_and_to_those_that_start_later(
    server: RunningServer, memory: SharedMemory
) -> None:
    assert memory.buf is not None
    memory.buf[:192] = pixels(7)
    stub = connect(server)
    stub.SystemSharedMemoryRegister(
        pb.SystemSharedMemoryRegisterRequest(name="r", key=memory.name, byte_size=4096), timeout=10
    )
    message = request()
    del message.raw_input_contents[:]
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    message.inputs[0].parameters["shared_memory_byte_size"].int64_param = 192

    codes: set[grpc.StatusCode] = set()

    def answers() -> bool:
        try:
            return best(connect(server).ModelInfer(message, timeout=10)) == [expected_class(7, 1)]
        except grpc.RpcError as error:
            codes.add(error.code())
            return False

    assert all(answers() for _ in range(8))
    for frontend in server.children("frontend"):
        frontend.kill()
        frontend.wait(10)
    wait_until(lambda: all(answers() for _ in range(8)), "frontends that started later know it")
    assert codes <= {grpc.StatusCode.UNAVAILABLE}
    stub = connect(server)
    stub.SystemSharedMemoryUnregister(pb.SystemSharedMemoryUnregisterRequest(name="r"), timeout=10)
    for _ in range(4):
        code, said = refusal(lambda: connect(server).ModelInfer(message, timeout=10))
        assert (code, "no shared-memory region 'r'" in said) == (INVALID, True)


def test_the_log_level_is_that_of_every_process(server: RunningServer) -> None:
    settings = {"log_verbose_level": pb.LogSettingsRequest.SettingValue(uint32_param=1)}
    connect(server).LogSettings(pb.LogSettingsRequest(settings=settings), timeout=10)
    for _ in range(4):
        said = connect(server).LogSettings(pb.LogSettingsRequest(), timeout=10).settings
        assert said["log_verbose_level"].uint32_param == 1
    settings["log_verbose_level"].uint32_param = 0
    connect(server).LogSettings(pb.LogSettingsRequest(settings=settings), timeout=10)


def test_a_compiled_model_that_takes_float32_is_offered_its_own_input(tmp_path: Path) -> None:
    with digits_server("npu bs1 bs16", tmp_path) as npu:
        stub = connect(npu)
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="repvgg_digits"), timeout=10)
        own = metadata.inputs[2]
        assert (own.datatype, list(own.shape)) == ("FP32", [-1, 3, 224, 224])
        pixels = np.zeros((2, *PREPROCESSING.shape), np.uint8)
        for row, file in zip(pixels, digit_files(), strict=False):
            preprocess_into(file.read_bytes(), PREPROCESSING, row)
        tensor = pb.ModelInferRequest.InferInputTensor(name=own.name, datatype="FP32", shape=[2, 3, 224, 224])
        message = pb.ModelInferRequest(model_name="repvgg_digits", inputs=[tensor])
        message.raw_input_contents.append(normalise(pixels, PREPROCESSING).tobytes())
        expected = [card_predictions()[file.name] for file in digit_files()[:2]]
        assert best(stub.ModelInfer(message, timeout=10)) == expected
