"""KServe v2's requests over the dataplane: what they may hold, and what the answer is."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from repserve_server.channel.messages import Priority
from repserve_server.channel.model_info import InputInfo, InstanceInfo, ModelInfo
from repserve_server.channel.requests import Figures, Region
from repserve_server.dataplane.administration import Administration
from repserve_server.dataplane.recorder import Recorder
from repserve_server.dataplane.regions import Regions
from repserve_server.errors import DeadlineError, InvalidRequestError, ModelNotFoundError, ModelUnavailableError
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.metrics import Sample
from repserve_server.protocols.kserve.bytes_tensor import join_elements
from repserve_server.protocols.kserve.core import InferenceCore
from repserve_server.protocols.kserve.tensors import (
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    OutputTensor,
    RegionSlice,
    RequestedOutput,
)
from support.dataplane_harness import DataplaneHarness, png
from support.fakes import scores_of
from support.queue_harness import WAIT_SECONDS, run_async, settle

PIXELS = Preprocessing(resize=2, crop=2)
LABELS = ("zero", "one", "two", "three")


class FakeAdministration:
    """The server as a whole, of which only the statistics are used here."""

    async def figures(self, samples: Sequence[str]) -> Figures:
        assert "repserve_images_total" in samples
        counts = {("digits", "1"): 7.0, ("gone", "3"): 1.0}
        found = (Sample("repserve_images_total", {"model": m, "version": v}, n) for (m, v), n in counts.items())
        return Figures(seconds=0.0, model_control_mode="none", samples=tuple(found))


class Harness(DataplaneHarness):
    def __init__(self, folder: Path, dtype: str = "uint8", **described: Any) -> None:  # noqa: ANN401
        super().__init__(8, dtype)
        shape = (2, 2, 3) if dtype == "uint8" else (3, 2, 2)
        self.info = ModelInfo(
            "digits",
            "1",
            "ready",
            "",
            labels=LABELS,
            preprocessing=PIXELS,
            max_batch_size=4,
            classes=4,
            input=InputInfo("image", dtype, shape),
            output_name="logits",
            instances=(InstanceInfo("cpu", "fake", "f32", False, {1: 0.1, 4: 0.2}),),
        )
        self.info = replace(self.info, **described)
        loading = replace(self.info, name="loading", state="loading", revision=9)
        self.dataplane.models.update([self.info, loading])
        self.dataplane.models.server_ready = True
        self.regions = Regions(folder)
        administration = cast("Administration", FakeAdministration())
        self.core = InferenceCore(self.dataplane, administration, self.regions, 60.0, self.clock)
        self.worker = self.start_worker()
        self.recorder = Recorder(self.metrics, clock=self.clock)

    async def begin(self, request: InferenceRequest, remaining: float | None = None) -> InferenceResponse:
        with self.recorder.request("grpc", "ModelInfer", dict, remaining) as record:
            return await self.core.infer(request, "client", remaining, record)

    async def infer(self, request: InferenceRequest, remaining: float | None = None) -> InferenceResponse:
        """Answered by the hand-played worker as soon as its images are there."""
        task = asyncio.ensure_future(self.begin(request, remaining))
        await self.until_submitted()
        await settle()
        self.worker.answer(self.worker.read())
        return await asyncio.wait_for(task, WAIT_SECONDS)

    async def refuse(self, request: InferenceRequest, error: type[Exception], words: str) -> None:
        with pytest.raises(error) as caught:
            await self.begin(request)
        assert words in str(caught.value)
        await self.until_free()


def ask(*inputs: InputTensor, **others: Any) -> InferenceRequest:  # noqa: ANN401
    return InferenceRequest(**{"model": "digits", "version": "", "id": "x", "inputs": inputs, **others})


def pixels(count: int = 2, **changes: Any) -> InputTensor:  # noqa: ANN401
    content = np.arange(count * 12, dtype=np.uint8)
    return replace(InputTensor("INPUT", "UINT8", (count, 2, 2, 3), content.tobytes()), **changes)


def images(*contents: bytes, shape: tuple[int, ...] | None = None) -> InputTensor:
    return InputTensor("IMAGE", "BYTES", shape or (len(contents), 1), join_elements(contents))


def scores(output: OutputTensor) -> list[list[float]]:
    assert isinstance(output.data, bytes)
    rows: list[list[float]] = np.frombuffer(output.data, np.float32).reshape(output.shape).tolist()
    return rows


def in_loop(test: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await test

    run_async(run)


def test_pixels_get_the_models_own_scores(tmp_path: Path) -> None:
    async def test() -> None:
        response = await Harness(tmp_path).infer(ask(pixels(3)))
        assert (response.model, response.version, response.id) == ("digits", "1", "x")
        (output,) = response.outputs
        assert (output.name, output.datatype, output.shape) == ("logits", "FP32", (3, 4))
        rows = np.arange(36, dtype=np.uint8).reshape(3, 2, 2, 3)
        assert scores(output) == [scores_of(row).tolist() for row in rows]

    in_loop(test())


@pytest.mark.parametrize("shape", [(2, 1), (2,)])
def test_encoded_images_come_in_either_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    async def test() -> None:
        response = await Harness(tmp_path).infer(ask(images(png(5), png(9), shape=shape)))
        assert [row[0] for row in scores(response.outputs[0])] == [60.0, 108.0]

    in_loop(test())


def test_encoded_images_may_come_apart(tmp_path: Path) -> None:
    async def test() -> None:
        response = await Harness(tmp_path).infer(ask(InputTensor("IMAGE", "BYTES", (2,), [png(5), png(9)])))
        assert [row[0] for row in scores(response.outputs[0])] == [60.0, 108.0]

    in_loop(test())


def test_a_float_tensor_is_taken_where_metadata_lists_it(tmp_path: Path) -> None:
    async def test() -> None:
        harness = Harness(tmp_path, "float32")
        metadata = harness.core.model_metadata("digits", "")
        assert metadata["inputs"][2] == {"name": "image", "datatype": "FP32", "shape": [-1, 3, 2, 2]}
        content = np.arange(12, dtype=np.float32)
        response = await harness.infer(ask(InputTensor("image", "FP32", (1, 3, 2, 2), content.tobytes())))
        assert scores(response.outputs[0])[0][0] == 66.0

    in_loop(test())


def test_the_own_input_has_another_name_where_it_would_be_taken_for_pixels(tmp_path: Path) -> None:
    async def test() -> None:
        harness = Harness(tmp_path, "float32", input=InputInfo("INPUT", "float32", (3, 2, 2)))
        assert harness.core.model_metadata("digits", "")["inputs"][2]["name"] == "[INPUT]"

    in_loop(test())


def test_classification_ranks_by_the_models_scores_and_cuts_to_the_classes(tmp_path: Path) -> None:
    async def test() -> None:
        wanted = (RequestedOutput("logits", classification=9),)
        response = await Harness(tmp_path).infer(ask(pixels(1), outputs=wanted))
        (output,) = response.outputs
        assert (output.datatype, output.shape) == ("BYTES", (1, 4))
        assert output.data == [b"66.000000:0:zero", b"1.000000:2:two", b"0.000000:3:three", b"-66.000000:1:one"]

    in_loop(test())


WRONG: list[tuple[InferenceRequest, str]] = [
    (ask(), "has inputs none; expected one, IMAGE BYTES [n, 1] or INPUT UINT8 [n, 2, 2, 3]"),
    (ask(pixels(), images(png(1))), "has inputs 'INPUT', 'IMAGE'"),
    (ask(pixels(name="input")), "has no input 'input'"),
    (ask(pixels(datatype="FP32")), "is FP32 [2, 2, 2, 3]; expected INPUT UINT8 [n, 2, 2, 3]"),
    (ask(pixels(shape=(2, 12))), "is UINT8 [2, 12]"),
    (ask(pixels(shape=(0, 2, 2, 3))), "n at least 1"),
    (ask(pixels(shape=(-1, 2, 2, 3))), "n at least 1"),
    (ask(pixels(shape=(3, 2, 2, 3))), "have 24 bytes; expected 36 (3 x 2 x 2 x 3 uint8 values)"),
    (ask(images(png(1), shape=(1, 1, 1))), "or BYTES [n], n at least 1"),
    (ask(images(png(1), shape=(2, 1))), "has 1 elements, but its shape has 2"),
    (ask(images(png(1), b"no image")), "image 1 of 2"),
    (ask(pixels(9)), "9 images and the queue holds 8"),
    (ask(pixels(), outputs=(RequestedOutput("scores"),)), "has no output 'scores'; its output is 'logits'"),
    (ask(pixels(), outputs=(RequestedOutput("logits"), RequestedOutput("logits"))), "more than once"),
    (ask(pixels(data=RegionSlice("r", 0, 24))), "no shared-memory region 'r'"),
    (ask(pixels(), parameters={"sequence_id": "s"}), "'sequence_id' is for stateful models"),
    (ask(pixels(), parameters={"priority": "high"}), "'priority' is 'high'; expected a whole number"),
    (ask(pixels(), parameters={"timeout": -1}), "'timeout' is -1"),
]


@pytest.mark.parametrize(("request_", "words"), WRONG)
def test_a_wrong_request_is_refused_with_the_reason(tmp_path: Path, request_: InferenceRequest, words: str) -> None:
    async def test() -> None:
        await Harness(tmp_path).refuse(request_, InvalidRequestError, words)

    in_loop(test())


def test_a_request_with_a_wrong_parameter_counts_for_its_model(tmp_path: Path) -> None:
    async def test() -> None:
        harness = Harness(tmp_path)
        for parameters in ({"sequence_id": 7}, {"timeout": -1}, {"priority": "high"}):
            with pytest.raises(InvalidRequestError):
                await harness.begin(ask(pixels(), parameters=parameters))
        rejected = {"model": "digits", "version": "1", "reason": "invalid"}
        assert harness.metrics.registry.get_sample_value("repserve_rejected_requests_total", rejected) == 3

    in_loop(test())


def test_models_that_are_not_there_or_not_ready_are_told_apart(tmp_path: Path) -> None:
    async def test() -> None:
        harness = Harness(tmp_path)
        await harness.refuse(ask(pixels(), model="cats"), ModelNotFoundError, "no model 'cats'")
        await harness.refuse(ask(pixels(), version="7"), ModelNotFoundError, "no version '7'")
        await harness.refuse(ask(pixels(), model="loading"), ModelUnavailableError, "is loading")
        core = harness.core
        assert [core.model_ready(*names) for names in (("digits", ""), ("digits", "1"), ("digits", "2"))] == [
            True,
            True,
            False,
        ]
        assert not core.model_ready("loading", "")
        assert [(entry["name"], entry["state"]) for entry in core.index(ready_only=False)] == [
            ("digits", "READY"),
            ("loading", "LOADING"),
        ]
        assert [entry["name"] for entry in core.index(ready_only=True)] == ["digits"]

    in_loop(test())


@pytest.mark.parametrize(
    ("remaining", "timeout", "seconds"), [(None, 0, 60.0), (5.0, 0, 5.0), (5.0, 2_000_000, 2.0), (1.0, 2_000_000, 1.0)]
)
def test_the_soonest_deadline_counts(tmp_path: Path, remaining: float | None, timeout: int, seconds: float) -> None:
    async def test() -> None:
        harness = Harness(tmp_path)
        request = ask(pixels(), parameters={"timeout": timeout})
        task = asyncio.ensure_future(harness.begin(request, remaining))
        await settle()
        (first, _) = harness.worker.read()
        assert first.deadline == pytest.approx(harness.clock.now + seconds)
        harness.clock.advance(seconds)
        harness.worker.answer(harness.worker.held)
        harness.clock.advance(1e-6)
        with pytest.raises(DeadlineError):
            await asyncio.wait_for(task, WAIT_SECONDS)

    in_loop(test())


@pytest.mark.parametrize(("number", "priority"), [(0, Priority.NORMAL), (1, Priority.HIGH), (2, Priority.NORMAL)])
def test_priority_one_goes_first(tmp_path: Path, number: int, priority: Priority) -> None:
    async def test() -> None:
        harness = Harness(tmp_path)
        task = asyncio.ensure_future(harness.begin(ask(pixels(1), parameters={"priority": number})))
        await settle()
        (entry,) = harness.worker.read()
        assert entry.priority is priority
        harness.worker.answer([entry])
        await asyncio.wait_for(task, WAIT_SECONDS)

    in_loop(test())


def test_input_and_output_may_lie_in_shared_memory(tmp_path: Path) -> None:
    async def test() -> None:
        harness = Harness(tmp_path)
        content = np.arange(24, dtype=np.uint8)
        (tmp_path / "object").write_bytes(content.tobytes() + bytes(40))
        harness.regions.open(Region("r", "object", 0, 64))
        wanted = (RequestedOutput("logits", place=RegionSlice("r", 24, 40)),)
        response = await harness.infer(ask(pixels(data=RegionSlice("r", 0, 24)), outputs=wanted))
        assert response.outputs[0].data == RegionSlice("r", 24, 32)
        written = np.frombuffer((tmp_path / "object").read_bytes()[24:56], np.float32).reshape(2, 4)
        assert written[0].tolist() == scores_of(content[:12].reshape(2, 2, 3)).tolist()
        small = (RequestedOutput("logits", place=RegionSlice("r", 24, 31)),)
        with pytest.raises(InvalidRequestError, match="has 32 bytes, but its place"):
            await harness.infer(ask(pixels(), outputs=small))

    in_loop(test())


def test_metadata_and_config_agree(tmp_path: Path) -> None:
    async def test() -> None:
        core = Harness(tmp_path).core
        metadata: Any = core.model_metadata("digits", "1")
        config: Any = core.model_config("digits", "1")
        assert [entry["name"] for entry in config["input"]] == [tensor["name"] for tensor in metadata["inputs"]]
        assert [entry["dims"] for entry in config["input"]] == [tensor["shape"][1:] for tensor in metadata["inputs"]]
        assert all(tensor["shape"][0] == -1 for tensor in (*metadata["inputs"], *metadata["outputs"]))
        assert (config["max_batch_size"], config["platform"]) == (4, metadata["platform"])
        assert metadata["versions"] == ["1"]
        assert config["dynamic_batching"]["preferred_batch_size"] == [1, 4]
        assert all(entry["optional"] for entry in config["input"])
        only: Any = Harness(tmp_path, offered=("INPUT",)).core.model_config("digits", "1")
        assert [(entry["name"], entry["optional"]) for entry in only["input"]] == [("INPUT", False)]

    in_loop(test())


def test_statistics_of_one_model_or_all(tmp_path: Path) -> None:
    async def test() -> None:
        core = Harness(tmp_path).core
        every = (await core.statistics("", ""))["model_stats"]
        assert [(entry["name"], entry["inference_count"]) for entry in every] == [
            ("digits", 7),
            ("gone", 1),
            ("loading", 0),
        ]
        (one,) = (await core.statistics("digits", "1"))["model_stats"]
        assert one["inference_count"] == 7
        with pytest.raises(ModelNotFoundError, match="no statistics of model 'cats'"):
            await core.statistics("cats", "")

    in_loop(test())


def test_the_server_is_ready_until_it_drains(tmp_path: Path) -> None:
    async def test() -> None:
        harness = Harness(tmp_path)
        assert harness.core.ready()
        await harness.dataplane.drain()
        assert not harness.core.ready()
        assert not harness.core.model_ready("digits", "")
        assert harness.core.live()

    in_loop(test())
