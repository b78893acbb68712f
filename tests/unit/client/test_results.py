from __future__ import annotations

import dataclasses

import pytest

from repserve_client.results import Classification, ModelInfo, RankedClass
from repserve_protos.v1 import classification_pb2 as pb


def test_a_classification_has_all_fields_in_seconds_and_order() -> None:
    message = pb.ClassifyResponse(
        model="a0",
        version="2",
        decode_microseconds=1500,
        predictions=[
            pb.Prediction(
                classes=[
                    pb.RankedClass(index=7, label="seven", probability=0.75),
                    pb.RankedClass(index=1, label="one", probability=0.25),
                ],
                batch_size=4,
                queue_microseconds=250,
                compute_microseconds=12_000,
            ),
            pb.Prediction(classes=[pb.RankedClass(index=3, probability=1.0)], batch_size=1),
        ],
    )
    result = Classification.from_message(message)
    assert (result.model, result.version) == ("a0", "2")
    assert result.decode_seconds == pytest.approx(0.0015)
    first, second = result.predictions
    assert first.classes == (RankedClass(7, "seven", 0.75), RankedClass(1, "one", 0.25))
    assert first.best == RankedClass(7, "seven", 0.75)
    assert (first.batch_size, second.batch_size) == (4, 1)
    assert first.queue_seconds == pytest.approx(0.00025)
    assert first.compute_seconds == pytest.approx(0.012)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.model = "other"  # type: ignore[misc]


def test_a_model_has_all_fields() -> None:
    message = pb.Model(
        name="a0",
        version="1",
        ready=False,
        reason="loading",
        crop=224,
        classes=1000,
        instances=[
            pb.Instance(
                device="sim:310p",
                backend="simulated",
                precision="none",
                simulated=True,
                batch_costs=[
                    pb.BatchCost(batch_size=1, microseconds=400),
                    pb.BatchCost(batch_size=16, microseconds=1830),
                ],
            )
        ],
    )
    model = ModelInfo.from_message(message)
    assert (model.name, model.version, model.ready, model.reason) == ("a0", "1", False, "loading")
    assert (model.crop, model.classes) == (224, 1000)
    (instance,) = model.instances
    assert (instance.device, instance.backend, instance.precision) == ("sim:310p", "simulated", "none")
    assert instance.simulated
    assert instance.batch_seconds == pytest.approx({1: 0.0004, 16: 0.00183})
