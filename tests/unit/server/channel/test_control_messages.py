"""Control messages: each arrives as it was sent, in the direction in which it goes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from repserve_server.channel import frontend_messages as frontend
from repserve_server.channel import requests
from repserve_server.channel import worker_messages as worker
from repserve_server.channel.message import CollectMetrics, Identity, Message, MetricsReport, SetLogLevel, Stop
from repserve_server.channel.model_info import InputInfo, InstanceInfo, ModelInfo
from repserve_server.channel.slots import SlotLayout
from repserve_server.errors import Status
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.metrics import Family, Sample
from support.fakes import READY

IDENTITY = Identity(process="worker", log_level="info", log_format="json")
REGION = requests.Region("r", "/object", 1, 2)
LAYOUT = SlotLayout(4, (3, 2, 2), "float32", 10)
SAMPLES = (Sample("up", {"model": "m"}, 1.5), Sample("waiting", {}, math.inf))
INFO = ModelInfo(
    "m",
    "1",
    "ready",
    "",
    preprocessing=Preprocessing(resize=64, crop=48),
    instances=(InstanceInfo("npu:0", "acl", "as compiled", False, {1: 0.5, 16: 1.25}, 2.0),),
    input=InputInfo("image", "float32", (3, 48, 48)),
)
LOAD = worker.LoadWorker(
    identity=IDENTITY,
    model="m",
    version="1",
    device="npu:0",
    instance=1,
    folder=Path("/models/m/1"),
    runtime="auto",
    precision="auto",
    threads=2,
    max_batch_size=16,
    compiled_sizes=(1, 16),
    classes=10,
    labels=("zero",),
    output="logits",
    preprocessing=Preprocessing(),
    crop_open=True,
)
GOLDEN = worker.GoldenResult(images=3, largest_difference=0.01, labelled=0, accuracy=None, seconds=0.5)
REQUESTS = (
    requests.LoadModel(model="m"),
    requests.UnloadModel(model="m"),
    requests.RegisterRegion(region=REGION),
    requests.UnregisterRegion(name=""),
    requests.ListRegions(),
    requests.ChangeLogLevel(level="debug"),
    requests.GetFigures(samples=("up",)),
)
RESPONSES = (
    requests.Done(),
    requests.Failure(status=Status.RESOURCE_EXHAUSTED, message="it is full", retry_after=0.25),
    requests.RegionList(regions=(REGION,)),
    requests.CurrentLogLevel(level="error"),
    requests.Figures(seconds=1.0, model_control_mode="watch", samples=SAMPLES),
)
COMMON = (CollectMetrics(), SetLogLevel(level="debug"), Stop())
REPORT = MetricsReport(snapshot=(Family("up", "gauge", "Up.", SAMPLES),))
CALLS = tuple(requests.Call(number=1, request=request) for request in REQUESTS)
REPLIES = tuple(requests.Reply(number=2, response=response) for response in RESPONSES)
TO_FRONTEND = (
    frontend.StartFrontend(
        identity=IDENTITY,
        address="127.0.0.1:8001",
        host="127.0.0.1",
        http_port=8000,
        decode_threads=2,
        max_image_pixels=100,
        default_timeout_seconds=60.0,
        load_timeout_seconds=660.0,
        otlp_endpoint=None,
        trace_sample_ratio=0.5,
        regions=(REGION,),
    ),
    frontend.UpdateModel(model="m", versions=(INFO,)),
    frontend.UpdateReadiness(ready=True),
    frontend.OpenQueue(
        model="m", version="1", revision=3, labels=("a",), layout=LAYOUT, output="logits", best_image_seconds=0.1
    ),
    frontend.AttachWorker(revision=3, worker="worker"),
    frontend.DetachWorker(revision=3, worker="worker", crashed=True),
    frontend.RetireRevision(revision=3),
    frontend.BecomeUnready(),
    frontend.Drain(),
    *COMMON,
    *CALLS,
    *REPLIES,
)
FROM_FRONTEND = (frontend.Started(), frontend.Retired(revision=3), frontend.Drained(), REPORT, *CALLS, *REPLIES)
TO_WORKER = (LOAD, worker.AttachFrontend(frontend="frontend", layout=LAYOUT), *COMMON)
FROM_WORKER = (READY.model_copy(update={"golden": GOLDEN}), worker.LoadFailed(reason="no file"), REPORT)


@pytest.mark.parametrize(
    ("adapter", "messages"),
    [
        (frontend.TO_FRONTEND, TO_FRONTEND),
        (frontend.FROM_FRONTEND, FROM_FRONTEND),
        (worker.TO_WORKER, TO_WORKER),
        (worker.FROM_WORKER, FROM_WORKER),
    ],
)
def test_every_message_arrives_as_it_was_sent(adapter: TypeAdapter[Any], messages: tuple[Message, ...]) -> None:
    for message in messages:
        assert adapter.validate_json(message.model_dump_json()) == message


@pytest.mark.parametrize(
    ("union", "tried"),
    [
        (frontend.ToFrontend, TO_FRONTEND),
        (frontend.FromFrontend, FROM_FRONTEND),
        (worker.ToWorker, TO_WORKER),
        (worker.FromWorker, FROM_WORKER),
        (get_args(requests.AnyRequest)[0], REQUESTS),
        (get_args(requests.AnyResponse)[0], RESPONSES),
    ],
)
def test_no_message_is_left_out_above(union: object, tried: tuple[Message, ...]) -> None:
    assert {type(message) for message in tried} == set(get_args(union))


def test_what_goes_the_other_way_or_lacks_a_field_is_refused() -> None:
    for text in (frontend.Started().model_dump_json(), '{"kind":"set_log_level"}', '{"kind":"stop","now":true}'):
        with pytest.raises(ValidationError):
            worker.TO_WORKER.validate_json(text)
