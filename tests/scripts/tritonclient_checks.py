"""NVIDIA's client library against a running server, in a process of its own: it brings its own protobuf descriptors.

``python tritonclient_checks.py KIND URL FOLDER CHECK...``, where KIND is grpc, grpc.aio, http or http.aio and FOLDER
holds digit images.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import queue
import sys
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODEL = "repvgg_digits"


class Checks:
    """The checks, the same for every kind; a client for asyncio is made to wait for its answers."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        self.kind = kind
        self.grpc = kind.startswith("grpc")
        self.library: Any = importlib.import_module(f"tritonclient.{kind}")
        self.error: Any = importlib.import_module("tritonclient.utils").InferenceServerException
        self.loop = asyncio.new_event_loop()
        self.images = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:40]]
        self.client: Any = self.wait(self._connect(url))

    async def _connect(self, url: str) -> object:
        return self.library.InferenceServerClient(url)

    def wait(self, value: object) -> Any:  # noqa: ANN401 - whatever the library gives
        return self.loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def call(self, name: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401
        return self.wait(getattr(self.client, name)(*arguments, **named))

    def json(self, name: str, *arguments: object, **named: object) -> Any:  # noqa: ANN401
        if self.grpc:
            named["as_json"] = True
        return self.call(name, *arguments, **named)

    def refused(self, what: Callable[[], object], grpc_status: str, http_status: str) -> str:
        status = f"StatusCode.{grpc_status}" if self.grpc else http_status
        with pytest.raises(self.error) as caught:
            what()
        error: Any = caught.value
        assert error.status() == status, (error.status(), status, error.message())
        return str(error.message())

    @property
    def output(self) -> str:
        return str(self.json("get_model_metadata", MODEL)["outputs"][0]["name"])

    def image_input(self, images: list[bytes], shape: tuple[int, ...] | None = None) -> Any:  # noqa: ANN401
        array = np.array(images, dtype=np.object_).reshape(shape or (len(images), 1))
        tensor = self.library.InferInput("IMAGE", array.shape, "BYTES")
        tensor.set_data_from_numpy(array)
        return tensor

    def pixel_input(self, count: int, shape: tuple[int, ...] = (224, 224, 3), name: str = "INPUT") -> Any:  # noqa: ANN401
        array = np.random.default_rng(7).integers(0, 256, (count, *shape), np.uint8)
        tensor = self.library.InferInput(name, array.shape, "UINT8")
        tensor.set_data_from_numpy(array)
        return tensor

    def infer(self, *inputs: object, model: str = MODEL, **named: object) -> Any:  # noqa: ANN401
        return self.call("infer", model, list(inputs), **named)

    def check_health_and_metadata(self) -> None:
        assert self.call("is_server_live")
        assert self.call("is_server_ready")
        assert self.call("is_model_ready", MODEL)
        assert self.call("is_model_ready", MODEL, "1")
        assert not self.call("is_model_ready", MODEL, "7")
        assert not self.call("is_model_ready", "nothing")
        server = self.json("get_server_metadata")
        assert server["name"] == "repserve"
        assert "statistics" in server["extensions"]
        model = self.json("get_model_metadata", MODEL)
        assert [(tensor["name"], tensor["datatype"]) for tensor in model["inputs"]] == [
            ("IMAGE", "BYTES"),
            ("INPUT", "UINT8"),
        ]
        assert [int(side) for side in model["inputs"][1]["shape"]] == [-1, 224, 224, 3]
        assert [int(side) for side in model["outputs"][0]["shape"]] == [-1, 10]
        config = self.json("get_model_config", MODEL)
        config = config.get("config", config)
        assert config["max_batch_size"] == 16
        assert "dynamic_batching" in config
        index = self.json("get_model_repository_index")
        entries = index["models"] if self.grpc else index
        states = {entry["name"]: entry["state"] for entry in entries}
        assert states[MODEL] == "READY"
        message = self.refused(lambda: self.call("get_model_metadata", "nothing"), "NOT_FOUND", "404")
        assert "'nothing'" in message

    def check_images_get_their_classes(self) -> None:
        one_by_one = [
            int(self.infer(self.image_input([image])).as_numpy(self.output).argmax()) for image in self.images
        ]
        for count in (2, 16, 17, 40):
            scores = self.infer(self.image_input(self.images[:count])).as_numpy(self.output)
            assert scores.shape == (count, 10)
            assert scores.dtype == np.float32
            assert scores.argmax(axis=1).tolist() == one_by_one[:count]
        flat = self.infer(self.image_input(self.images[:3], (3,))).as_numpy(self.output)
        assert flat.argmax(axis=1).tolist() == one_by_one[:3]

    def check_pixels_of_any_number(self) -> None:
        for count in (1, 15, 16, 33):
            assert self.infer(self.pixel_input(count)).as_numpy(self.output).shape == (count, 10)

    def check_classification(self) -> None:
        wanted = [self.library.InferRequestedOutput(self.output, class_count=3)]
        result = self.infer(self.image_input(self.images[:2]), outputs=wanted).as_numpy(self.output)
        scores = self.infer(self.image_input(self.images[:2])).as_numpy(self.output)
        assert result.shape == (2, 3)
        for row, values in zip(result, scores, strict=True):
            parts = [element.decode().split(":") for element in row]
            assert [int(index) for _, index, _ in parts] == np.argsort(-values, kind="stable")[:3].tolist()
            assert abs(float(parts[0][0]) - values.max()) < 1e-5
            assert parts[0][2].isalpha()

    def check_wrong_requests(self) -> None:
        bad = [
            (lambda: self.infer(self.pixel_input(1, name="image")), "no input 'image'"),
            (lambda: self.infer(self.pixel_input(1, (224, 224, 1))), "[1, 224, 224, 1]"),
            (lambda: self.infer(self.pixel_input(1, (10,))), "[1, 10]"),
            (lambda: self.infer(self.image_input(self.images[:2], (1, 2))), "[1, 2]"),
            (lambda: self.infer(self.pixel_input(1), self.image_input(self.images[:1])), "expected one, IMAGE"),
            (lambda: self.infer(self.image_input([b"no image"])), "format"),
            (lambda: self.infer(self.image_input([self.images[0], self.images[1][:300]])), "image 1 of 2"),
            (
                lambda: self.infer(self.pixel_input(1), outputs=[self.library.InferRequestedOutput("probabilities")]),
                "no output 'probabilities'",
            ),
        ]
        for what, words in bad:
            message = self.refused(what, "INVALID_ARGUMENT", "400")
            assert words in message, message
        for what in (
            lambda: self.infer(self.pixel_input(1), model="nothing"),
            lambda: self.infer(self.pixel_input(1), model_version="7"),
        ):
            self.refused(what, "NOT_FOUND", "404")

    def check_parameters(self) -> None:
        result = self.infer(self.pixel_input(1), request_id="seven", priority=1, timeout=5_000_000)
        response = result.get_response()
        assert (response.id if self.grpc else response["id"]) == "seven"
        message = self.refused(lambda: self.infer(self.image_input(self.images), timeout=1), "DEADLINE_EXCEEDED", "504")
        assert "deadline" in message

    def check_statistics(self) -> None:
        def counted() -> tuple[int, int, int]:
            entry = self.json("get_inference_statistics", MODEL)["model_stats"][0]
            stats = entry["inference_stats"]
            return int(entry["inference_count"]), int(stats["success"]["count"]), int(stats["fail"].get("count", 0))

        before = counted()
        self.infer(self.pixel_input(3))
        self.refused(lambda: self.infer(self.image_input([b"no image"])), "INVALID_ARGUMENT", "400")
        after = counted()
        assert [new - old for new, old in zip(after, before, strict=True)] == [3, 1, 1]

    def check_shared_memory(self) -> None:
        from tritonclient.utils import shared_memory

        name, key = f"region-{uuid.uuid4()}", f"/repserve-test-{uuid.uuid4()}"
        pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
        size, room = pixels.nbytes, 2 * 10 * 4
        handle = shared_memory.create_shared_memory_region(name, key, size + room)
        try:
            shared_memory.set_shared_memory_region(handle, [pixels])
            self.call("register_system_shared_memory", name, key, size + room)
            status = self.json("get_system_shared_memory_status", name)
            assert name in str(status)
            self.refused(lambda: self.call("register_system_shared_memory", name, key, size), "ALREADY_EXISTS", "409")
            tensor = self.library.InferInput("INPUT", pixels.shape, "UINT8")
            tensor.set_shared_memory(name, size)
            wanted = self.library.InferRequestedOutput(self.output)
            wanted.set_shared_memory(name, room, offset=size)
            self.infer(tensor, outputs=[wanted])
            shared = shared_memory.get_contents_as_numpy(handle, np.float32, (2, 10), offset=size)
            plain = self.library.InferInput("INPUT", pixels.shape, "UINT8")
            plain.set_data_from_numpy(pixels)
            assert np.allclose(shared, self.infer(plain).as_numpy(self.output), atol=1e-3)
            tensor.set_shared_memory("nothing", size)
            assert "nothing" in self.refused(lambda: self.infer(tensor), "INVALID_ARGUMENT", "400")
            tensor.set_shared_memory(name, size, offset=size)
            assert "are outside region" in self.refused(lambda: self.infer(tensor), "INVALID_ARGUMENT", "400")
            self.call("unregister_system_shared_memory", name)
            assert name not in str(self.json("get_system_shared_memory_status"))
            self.refused(
                lambda: self.call("register_system_shared_memory", name, "/no-such-object", 1),
                "INVALID_ARGUMENT",
                "400",
            )
        finally:
            shared_memory.destroy_shared_memory_region(handle)
        self.call("unregister_cuda_shared_memory")

    def check_log_settings(self) -> None:
        self.call("update_log_settings", {"log_verbose_level": 1})
        assert "1" in str(self.json("get_log_settings"))
        self.call("update_log_settings", {"log_verbose_level": 0})
        self.refused(lambda: self.call("update_log_settings", {"log_colour": True}), "INVALID_ARGUMENT", "400")

    def check_loading_by_request(self) -> None:
        """With the server in the mode ``explicit``."""
        self.call("unload_model", MODEL)
        assert not self.call("is_model_ready", MODEL)
        self.refused(lambda: self.infer(self.pixel_input(1)), "UNAVAILABLE", "503")
        self.call("load_model", MODEL)
        assert self.call("is_model_ready", MODEL)
        assert self.infer(self.pixel_input(1)).as_numpy(self.output).shape == (1, 10)
        self.refused(lambda: self.call("load_model", "nothing"), "NOT_FOUND", "404")

    def check_streams(self) -> None:
        """Only ``grpc``: a failed request does not end its stream."""
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for number in range(20):
            tensor = self.image_input([b"no image"]) if number == 5 else self.pixel_input(1 + number % 3)
            self.client.async_stream_infer(MODEL, [tensor], request_id=str(number))
        got = [answers.get(timeout=30) for _ in range(20)]
        self.client.stop_stream()
        failed = [error for _, error in got if error is not None]
        assert len(failed) == 1
        assert "INVALID_ARGUMENT" in str(failed[0])
        done = {result.get_response().id: result.as_numpy(self.output).shape for result, error in got if error is None}
        assert done == {str(number): (1 + number % 3, 10) for number in range(20) if number != 5}

    def check_compression(self) -> None:
        """Only ``http``."""
        for algorithm in ("gzip", "deflate"):
            named = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
            assert self.infer(self.pixel_input(40), **named).as_numpy(self.output).shape == (40, 10)
        json_input = self.library.InferInput("INPUT", (1, 224, 224, 3), "UINT8")
        json_input.set_data_from_numpy(np.zeros((1, 224, 224, 3), np.uint8), binary_data=False)
        wanted = [self.library.InferRequestedOutput(self.output, binary_data=False)]
        assert self.infer(json_input, outputs=wanted).as_numpy(self.output).shape == (1, 10)

    def close(self) -> None:
        self.call("close")


def main(kind: str, url: str, folder: str, *names: str) -> None:
    """Print a JSON line for each check: its name, and what it failed with or null."""
    checks = Checks(kind, url, Path(folder))
    for name in names:
        failure = None
        try:
            getattr(checks, f"check_{name}")()
        except BaseException:  # noqa: BLE001 - pytest.raises fails with one that is no Exception
            failure = traceback.format_exc()
        print(json.dumps([name, failure]), flush=True)  # noqa: T201 - the result
    checks.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
