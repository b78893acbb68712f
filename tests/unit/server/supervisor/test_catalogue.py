"""The catalogue: a new version is loaded beside the old, takes over when ready, and never takes a good one down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from repserve_server.errors import ModelLoadError, ModelNotFoundError
from repserve_server.repository.config import ModelConfig
from repserve_server.repository.scan import ModelFolder, VersionFolder
from repserve_server.settings import Settings
from repserve_server.supervisor.catalogue import Catalogue
from repserve_server.supervisor.fleet import Fleet
from repserve_server.supervisor.models import ModelVersion
from support.fakes import READY
from support.queue_harness import run_async, settle


class FakeFleet:
    """Records what the catalogue asks for; a version that retires is gone when the test says so."""

    def __init__(self) -> None:
        self.models: list[ModelVersion] = []
        self.retired: list[str] = []

    def load(self, model: ModelVersion) -> None:
        self.models.append(model)

    def retire(self, model: ModelVersion) -> None:
        assert model.retiring
        self.retired.append(model.version)


class Harness:
    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        self.fleet = FakeFleet()
        self.told: list[dict[str, list[tuple[str, str]]]] = []
        self.catalogue = Catalogue(Settings(**settings), cast("Fleet", self.fleet), self._tell)

    def _tell(self) -> None:
        infos = self.catalogue.describe().items()
        self.told.append({name: [(info.version, info.state) for info in versions] for name, versions in infos})

    @property
    def now(self) -> dict[str, list[tuple[str, str]]]:
        return self.told[-1]

    def model(self, version: str, revision: int = -1) -> ModelVersion:
        return [model for model in self.fleet.models if model.version == version][revision]

    def ready(self, version: str, worker: int = 0) -> None:
        model = self.model(version)
        model.workers[worker].ready = READY
        model.was_ready = True
        self.catalogue.settle()

    def fail(self, version: str, reason: str = "it is broken") -> None:
        for worker in self.model(version).workers:
            worker.failure = reason
        self.catalogue.settle()

    def gone(self, version: str) -> None:
        model = self.model(version, 0)
        self.fleet.models.remove(model)
        model.gone.set()
        self.catalogue.settle()


def folder(*versions: int | tuple[int, str], name: str = "digits", **config: Any) -> ModelFolder:  # noqa: ANN401
    """A model folder with these versions; a version's second part tells its contents apart."""
    pairs = [(v, "a") if isinstance(v, int) else v for v in versions]
    found = tuple(VersionFolder(n, Path(name, str(n)), content, "") for n, content in pairs)
    problem = "" if versions else "no version is there yet"
    return ModelFolder(name, Path(name), ModelConfig.model_validate(config), versions=found, problem=problem)


def test_only_the_newest_version_is_loaded_by_default() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder(1, 2)])
        assert harness.now == {"digits": [("2", "loading")]}
        harness.ready("2")
        assert harness.now == {"digits": [("2", "ready")]}

    run_async(test)


def test_a_new_version_takes_over_when_it_is_ready_and_the_old_one_retires_after_that() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder(1)])
        harness.ready("1")
        harness.catalogue.take([folder(1, 2)])
        assert harness.now == {"digits": [("1", "ready"), ("2", "loading")]}
        assert harness.fleet.retired == []
        harness.ready("2")
        assert harness.now == {"digits": [("2", "ready")]}
        assert harness.fleet.retired == ["1"]

    run_async(test)


def test_the_switch_waits_until_every_worker_of_the_new_version_is_settled() -> None:
    async def test() -> None:
        harness = Harness(instance_count=2)
        harness.catalogue.take([folder(1)])
        harness.ready("1", 0)
        assert harness.now["digits"] == [("1", "ready")], "a first version serves with what it has"
        harness.catalogue.take([folder(1, 2)])
        harness.ready("2", 0)
        assert harness.now["digits"] == [("1", "ready"), ("2", "loading")]
        harness.ready("2", 1)
        assert harness.now["digits"] == [("2", "ready")]

    run_async(test)


def test_a_bad_new_version_never_takes_the_good_one_down() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder(1)])
        harness.ready("1")
        harness.catalogue.take([folder(1, 2)])
        harness.fail("2")
        assert harness.now["digits"] == [("1", "ready"), ("2", "failed")]
        assert harness.fleet.retired == []
        harness.catalogue.take([folder(1, 2)])
        assert len(harness.fleet.models) == 2, "it is not tried again before its files change"
        harness.catalogue.take([folder(1, (2, "mended"))])
        harness.ready("2")
        assert harness.now["digits"] == [("2", "ready")]
        assert sorted(harness.fleet.retired) == ["1", "2"]

    run_async(test)


def test_a_version_whose_files_change_is_loaded_anew_beside_itself() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder((1, "old"))])
        harness.ready("1")
        harness.catalogue.take([folder((1, "new"))])
        assert harness.now["digits"] == [("1", "ready"), ("1", "loading")]
        harness.fail("1")
        assert harness.now["digits"] == [("1", "ready"), ("1", "failed")]
        harness.catalogue.take([folder((1, "newest"))])
        harness.ready("1")
        assert harness.now["digits"] == [("1", "ready")]
        assert harness.model("1").source.fingerprint == "newest"

    run_async(test)


def test_of_two_wanted_versions_a_broken_one_keeps_the_one_it_was_to_replace() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder(1, 2, version_policy={"latest": 2})])
        harness.ready("1")
        harness.ready("2")
        harness.catalogue.take([folder(1, 2, 3, version_policy={"latest": 2})])
        harness.fail("3")
        assert harness.now["digits"] == [("1", "ready"), ("2", "ready"), ("3", "failed")]
        harness.catalogue.take([folder(2, 3, version_policy={"latest": 2})])
        assert harness.fleet.retired == ["1"], "its folder was removed, and another answers"

    run_async(test)


def test_a_model_whose_folder_is_removed_is_unloaded() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder(1), folder(1, name="cats")])
        harness.ready("1")
        harness.catalogue.take([folder(1)])
        assert harness.fleet.retired == ["1"]
        assert harness.fleet.models[1].retiring
        assert list(harness.now) == ["cats", "digits"]
        harness.fleet.models.pop()
        harness.catalogue.settle()
        assert list(harness.now) == ["digits"]

    run_async(test)


def test_a_folder_that_cannot_be_read_leaves_all_as_it_is() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder(1)])
        harness.ready("1")
        harness.catalogue.take([ModelFolder("digits", Path("digits"), problem="model.toml is not valid TOML")])
        assert harness.fleet.retired == []
        assert harness.now["digits"] == [("1", "ready"), ("", "absent")]
        assert harness.catalogue.describe()["digits"][1].reason == "model.toml is not valid TOML"

    run_async(test)


def test_a_held_model_is_loaded_by_name_and_unloaded_again() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.hold(["digits"])
        harness.catalogue.take([folder(1)])
        assert harness.now == {"digits": [("", "unloaded")]}
        load = asyncio.ensure_future(harness.catalogue.load(folder(1)))
        await settle()
        assert not load.done()
        harness.ready("1")
        await load
        assert harness.now == {"digits": [("1", "ready")]}
        unload = asyncio.ensure_future(harness.catalogue.unload("digits"))
        await settle()
        assert harness.now == {"digits": [("", "unloaded")]}
        assert not unload.done()
        harness.gone("1")
        await unload

    run_async(test)


def test_loading_what_fails_says_why_and_a_second_try_is_a_fresh_one() -> None:
    async def test() -> None:
        harness = Harness()
        for attempt in (1, 2):
            load = asyncio.ensure_future(harness.catalogue.load(folder(1)))
            await settle()
            harness.fail("1", "labels.txt names 3 classes")
            with pytest.raises(ModelLoadError, match="'digits' cannot be loaded: version 1: labels"):
                await load
            assert len(harness.fleet.models) == attempt
        with pytest.raises(ModelLoadError, match="no version is there yet"):
            await harness.catalogue.load(folder(name="empty"))

    run_async(test)


def test_loading_waits_for_the_new_version_while_the_old_one_serves() -> None:
    async def test() -> None:
        harness = Harness()
        harness.catalogue.take([folder(1)])
        harness.ready("1")
        load = asyncio.ensure_future(harness.catalogue.load(folder(1, 2)))
        await settle()
        assert not load.done()
        harness.ready("2")
        await load
        assert harness.fleet.retired == ["1"]

    run_async(test)


def test_an_unknown_model_cannot_be_unloaded() -> None:
    async def test() -> None:
        with pytest.raises(ModelNotFoundError, match="no model 'cats'; the repository has none"):
            await Harness().catalogue.unload("cats")

    run_async(test)


def test_a_model_may_have_devices_and_instances_of_its_own() -> None:
    async def test() -> None:
        harness = Harness(device=("cpu",), instance_count=3)
        harness.catalogue.take([folder(1), folder(1, name="fast", devices=["npu:0", "npu:1"], instance_count=2)])
        workers = {model.name: [(w.device, w.index) for w in model.workers] for model in harness.fleet.models}
        assert workers["digits"] == [("cpu", 0), ("cpu", 1), ("cpu", 2)]
        assert workers["fast"] == [("npu:0", 0), ("npu:0", 1), ("npu:1", 0), ("npu:1", 1)]

    run_async(test)
