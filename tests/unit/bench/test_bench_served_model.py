from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from repserve_bench.errors import LoadError
from repserve_bench.served_model import accuracy_missing, choose_model, describe_instances, is_repvgg_a0, is_simulated
from repserve_bench.table import TableSettings, load_settings
from repserve_client.results import InstanceInfo, ModelInfo


def model(
    name: str = "m", version: str = "1", *, ready: bool = True, reason: str = "", simulated: bool = False
) -> ModelInfo:
    instance = InstanceInfo(
        device="sim:310p" if simulated else "cpu",
        backend="simulated" if simulated else "openvino",
        precision="none" if simulated else "f32",
        simulated=simulated,
        batch_seconds={},
    )
    return ModelInfo(
        name=name,
        version=version,
        ready=ready,
        reason=reason,
        crop=224,
        classes=10,
        instances=(instance,) * 2,
    )


def test_the_only_ready_model_needs_no_name() -> None:
    assert choose_model([model("a", ready=False), model("b")]).name == "b"


def test_the_newest_ready_version_is_chosen_by_number() -> None:
    models = [model(version="9"), model(version="10"), model(version="11", ready=False)]
    assert choose_model(models, "m").version == "10"


def test_several_ready_models_need_a_name() -> None:
    with pytest.raises(LoadError, match=r"name one with --model; the server lists: a 1, b 1"):
        choose_model([model("a"), model("b")])


def test_an_unknown_model_is_an_error_that_lists_the_models() -> None:
    with pytest.raises(LoadError, match=r"no model 'x'; it has: a 1"):
        choose_model([model("a")], "x")


def test_a_model_that_is_not_ready_is_an_error_with_the_reason() -> None:
    with pytest.raises(LoadError, match="m is not ready: run 'repserve convert random'"):
        choose_model([model(ready=False, reason="run 'repserve convert random'")], "m")


def test_instances_are_described_once_each() -> None:
    assert describe_instances(model()) == {
        "devices": ["cpu"],
        "backends": ["openvino"],
        "precisions": ["f32"],
    }
    assert is_simulated(model(simulated=True))
    assert not is_simulated(model())


def test_accuracy_needs_labels_real_weights_and_a_real_device() -> None:
    assert accuracy_missing(model(), labelled=True) == ""
    assert "no labels" in accuracy_missing(model(), labelled=False)
    assert "RANDOM WEIGHTS" in accuracy_missing(replace(model(), caution="RANDOM WEIGHTS"), labelled=True)
    assert accuracy_missing(model(simulated=True), labelled=True) == "not measured: simulated"


@pytest.mark.parametrize("name", ["repvgg_a0", "RepVGG-A0", "RepVGGA0", "my-repvgg-a0-v2", "repvgg a0"])
def test_the_guides_network_is_known_by_its_name(name: str) -> None:
    assert is_repvgg_a0(name, crop=224, classes=1000)


@pytest.mark.parametrize(
    ("name", "crop", "classes"),
    [
        ("mobileone_s0", 224, 1000),
        ("repvgg_a1", 224, 1000),
        ("repvgg_a01", 224, 1000),
        ("repvgg_digits", 32, 10),
        ("repvgg_a0", 320, 1000),
        ("repvgg_a0", 224, 10),
    ],
)
def test_another_network_is_not_the_guides(name: str, crop: int, classes: int) -> None:
    assert not is_repvgg_a0(name, crop=crop, classes=classes)


@pytest.mark.parametrize(
    ("device", "max_batch_size", "concurrency", "per_request"),
    [("cpu", 1, 16, 1), ("cpu", 16, 32, 1), ("sim:310p", 1, 16, 1), ("sim:310p", 16, 4, 16)],
)
def test_the_load_fills_the_device(device: str, max_batch_size: int, concurrency: int, per_request: int) -> None:
    load = load_settings("x", device, max_batch_size, TableSettings(Path("model_repo")))
    assert (load.concurrency, load.input.images_per_request) == (concurrency, per_request)
    assert load.input.pixels == device.startswith("sim:")
