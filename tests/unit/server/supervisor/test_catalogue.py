"""The catalogue: a new version is loaded beside the old, takes over when ready, and never takes a good one down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repserve_server.errors import ModelLoadError, ModelNotFoundError
from repserve_server.repository.scan import ModelFolder
from repserve_server.supervisor.catalogue import Catalogue
from repserve_server.supervisor.fleet import Fleet
from repserve_server.supervisor.models import ModelVersion
from support.controller_harness import FakeLauncher, folder, make_context
from support.fakes import READY, FakeClock


class Harness:
    """A catalogue and what it has loaded; a version that retires is gone when the test says so."""

    def __init__(self, *, held: tuple[str, ...] = (), **settings: Any) -> None:  # noqa: ANN401
        self.fleet = Fleet([])
        context = make_context(FakeClock(), FakeLauncher(), **settings)
        self.catalogue = Catalogue(context, self.fleet, (), held)

    @property
    def now(self) -> dict[str, list[tuple[str, str]]]:
        infos = self.catalogue.describe().items()
        return {name: [(info.version, info.state) for info in versions] for name, versions in infos}

    @property
    def retired(self) -> list[str]:
        return [version.version for version in self.fleet.versions if version.retiring]

    def take(self, *folders: ModelFolder) -> None:
        self.catalogue.take(folders)
        self.catalogue.reconcile()

    def model(self, version: str, revision: int = -1) -> ModelVersion:
        return [model for model in self.fleet.versions if model.version == version][revision]

    def ready(self, version: str, worker: int = 0) -> None:
        model = self.model(version)
        model.take_ready(model.workers[worker], READY)
        self.catalogue.reconcile()

    def fail(self, version: str, reason: str = "it is broken") -> None:
        for worker in self.model(version).workers:
            worker.failure = reason
        self.catalogue.reconcile()

    def gone(self, version: str) -> None:
        model = self.model(version, 0)
        assert model.retiring
        model.released = True
        self.catalogue.forget_gone()


def test_only_the_newest_version_is_loaded_by_default() -> None:
    harness = Harness()
    harness.take(folder(1, 2))
    assert harness.now == {"digits": [("2", "loading")]}
    harness.ready("2")
    assert harness.now == {"digits": [("2", "ready")]}


def test_a_new_version_takes_over_when_it_is_ready_and_the_old_one_retires_after_that() -> None:
    harness = Harness()
    harness.take(folder(1))
    harness.ready("1")
    harness.take(folder(1, 2))
    assert harness.now == {"digits": [("1", "ready"), ("2", "loading")]}
    assert harness.retired == []
    harness.ready("2")
    assert harness.now == {"digits": [("2", "ready")]}
    assert harness.retired == ["1"]


def test_the_switch_waits_until_every_worker_of_the_new_version_is_settled() -> None:
    harness = Harness(instance_count=2)
    harness.take(folder(1))
    harness.ready("1", 0)
    assert harness.now["digits"] == [("1", "ready")], "a first version serves with what it has"
    harness.take(folder(1, 2))
    harness.ready("2", 0)
    assert harness.now["digits"] == [("1", "ready"), ("2", "loading")]
    harness.ready("2", 1)
    assert harness.now["digits"] == [("2", "ready")]


def test_a_bad_new_version_never_takes_the_good_one_down() -> None:
    harness = Harness()
    harness.take(folder(1))
    harness.ready("1")
    harness.take(folder(1, 2))
    harness.fail("2")
    assert harness.now["digits"] == [("1", "ready"), ("2", "failed")]
    assert harness.retired == []
    harness.take(folder(1, 2))
    assert len(harness.fleet.versions) == 2, "it is not tried again before its files change"
    harness.take(folder(1, (2, "mended")))
    harness.ready("2")
    assert harness.now["digits"] == [("2", "ready")]
    assert sorted(harness.retired) == ["1", "2"]


def test_a_version_whose_files_change_is_loaded_anew_beside_itself() -> None:
    harness = Harness()
    harness.take(folder((1, "old")))
    harness.ready("1")
    harness.take(folder((1, "new")))
    assert harness.now["digits"] == [("1", "ready"), ("1", "loading")]
    harness.fail("1")
    assert harness.now["digits"] == [("1", "ready"), ("1", "failed")]
    harness.take(folder((1, "newest")))
    harness.ready("1")
    assert harness.now["digits"] == [("1", "ready")]
    assert harness.model("1").source.files.fingerprint == "newest"


def test_of_two_wanted_versions_a_broken_one_keeps_the_one_it_was_to_replace() -> None:
    harness = Harness()
    harness.take(folder(1, 2, version_policy={"latest": 2}))
    harness.ready("1")
    harness.ready("2")
    harness.take(folder(1, 2, 3, version_policy={"latest": 2}))
    harness.fail("3")
    assert harness.now["digits"] == [("1", "ready"), ("2", "ready"), ("3", "failed")]
    harness.take(folder(2, 3, version_policy={"latest": 2}))
    assert harness.retired == ["1"], "its folder was removed, and another answers"


def test_a_model_whose_folder_is_removed_is_unloaded() -> None:
    harness = Harness()
    harness.take(folder(1), folder(1, name="cats"))
    harness.ready("1")
    harness.take(folder(1))
    assert harness.retired == ["1"]
    assert [version.name for version in harness.fleet.versions if version.retiring] == ["cats"]
    assert list(harness.now) == ["cats", "digits"]
    harness.gone("1")
    assert list(harness.now) == ["digits"]


def test_a_folder_that_cannot_be_read_leaves_all_as_it_is() -> None:
    harness = Harness()
    harness.take(folder(1))
    harness.ready("1")
    harness.take(ModelFolder("digits", Path("digits"), problem="model.toml is not valid TOML"))
    assert harness.retired == []
    assert harness.now["digits"] == [("1", "ready"), ("", "absent")]
    assert harness.catalogue.describe()["digits"][1].reason == "model.toml is not valid TOML"


def test_a_held_model_is_loaded_by_name_and_unloaded_again() -> None:
    harness = Harness(held=("digits",))
    harness.take(folder(1))
    assert harness.now == {"digits": [("", "unloaded")]}
    loading = harness.catalogue.load(folder(1))
    assert not harness.catalogue.check_loaded(folder(1), loading)
    harness.ready("1")
    assert harness.catalogue.check_loaded(folder(1), loading)
    assert harness.now == {"digits": [("1", "ready")]}
    (going,) = harness.catalogue.unload("digits")
    harness.catalogue.reconcile()
    assert harness.now == {"digits": [("", "unloaded")]}
    assert harness.fleet.versions == [going]
    harness.gone("1")
    assert harness.fleet.versions == []


def test_what_is_loaded_again_is_not_what_was_unloaded() -> None:
    harness = Harness()
    harness.take(folder(1))
    going = harness.catalogue.unload("digits")
    harness.catalogue.reconcile()
    (loading,) = harness.catalogue.load(folder(1))
    assert loading not in going
    assert harness.now == {"digits": [("1", "loading")]}


def test_loading_what_fails_says_why_and_a_second_try_is_a_fresh_one() -> None:
    harness = Harness()
    for attempt in (1, 2):
        loading = harness.catalogue.load(folder(1))
        harness.fail("1", "labels.txt names 3 classes")
        with pytest.raises(ModelLoadError, match="'digits' cannot be loaded: version 1: labels"):
            harness.catalogue.check_loaded(folder(1), loading)
        assert len(harness.fleet.versions) == attempt
    empty = folder(name="empty")
    with pytest.raises(ModelLoadError, match="no version is there yet"):
        harness.catalogue.check_loaded(empty, harness.catalogue.load(empty))


def test_loading_waits_for_the_new_version_while_the_old_one_serves() -> None:
    harness = Harness()
    harness.take(folder(1))
    harness.ready("1")
    loading = harness.catalogue.load(folder(1, 2))
    assert not harness.catalogue.check_loaded(folder(1, 2), loading)
    harness.ready("2")
    assert harness.catalogue.check_loaded(folder(1, 2), loading)
    assert harness.retired == ["1"]


def test_an_unknown_model_cannot_be_unloaded() -> None:
    with pytest.raises(ModelNotFoundError, match="no model 'cats'; the repository has none"):
        Harness().catalogue.unload("cats")


def test_a_model_may_have_devices_and_instances_of_its_own() -> None:
    harness = Harness(device=("cpu",), instance_count=3)
    harness.take(folder(1), folder(1, name="fast", devices=["npu:0", "npu:1"], instance_count=2))
    workers = {model.name: [(w.device, w.index) for w in model.workers] for model in harness.fleet.versions}
    assert workers["digits"] == [("cpu", 0), ("cpu", 1), ("cpu", 2)]
    assert workers["fast"] == [("npu:0", 0), ("npu:0", 1), ("npu:1", 0), ("npu:1", 1)]
