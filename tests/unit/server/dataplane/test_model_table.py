"""Looking models up by the names that requests use, and the errors when nothing is found."""

from __future__ import annotations

from typing import cast

import pytest
from pydantic import TypeAdapter

from repserve_server.channel.model_info import InputInfo, InstanceInfo, ModelInfo, ModelState
from repserve_server.dataplane.models import ModelTable
from repserve_server.dataplane.queue import ModelQueue
from repserve_server.errors import ModelNotFoundError, ModelUnavailableError
from repserve_server.imaging.preprocessing import Preprocessing


class QueueStandIn:
    """A queue is only handed out here, never used."""

    occupied = 3

    def __init__(self, entry: ModelInfo) -> None:
        self.model = (entry.name, entry.version)


def info(name: str, version: str = "1", state: ModelState = "ready", reason: str = "", revision: int = 0) -> ModelInfo:
    return ModelInfo(name, version, state, reason, classes=10, max_batch_size=16, revision=revision)


def table(*infos: ModelInfo) -> ModelTable:
    """A table in which every model that was ever ready has a queue."""
    made = ModelTable()
    for entry in infos:
        if entry.state in ("ready", "restarting"):
            made.open(entry.revision, cast("ModelQueue", QueueStandIn(entry)))
    made.update(list(infos))
    return made


def test_a_model_is_found_by_name_and_version_and_alone_without_a_name() -> None:
    models = table(info("digits"))
    for name, version in (("digits", "1"), ("digits", ""), ("", "")):
        assert models.find(name, version).info.name == "digits"
    assert models.find("digits", "").queue is models.queue(0)


def test_the_newest_version_is_the_highest_number() -> None:
    models = table(info("digits", "9", revision=1), info("digits", "10", revision=2), info("digits", "2", revision=3))
    assert models.find("digits", "").info.version == "10"
    assert models.find("", "").info.version == "10"
    assert models.find("digits", "9").info.version == "9"


def test_of_one_version_the_newest_revision_that_answers_is_served() -> None:
    loading, ready = info("digits", state="loading", revision=3), info("digits", revision=2)
    models = table(info("digits", revision=1), loading, ready)
    assert models.find("digits", "1").info.revision == 2
    models.open(3, cast("ModelQueue", QueueStandIn(loading)))
    models.update([ready, info("digits", revision=3)])
    assert models.find("digits", "").info.revision == 3
    models.close(3)
    assert models.find("digits", "").info.revision == 2


def test_a_model_being_restarted_still_queues_images() -> None:
    assert table(info("digits", state="restarting")).find("digits", "").info.state == "restarting"


def test_several_models_need_a_name() -> None:
    with pytest.raises(ModelNotFoundError, match="names no model; name one of a0, digits"):
        table(info("digits"), info("a0")).find("", "")


def test_the_only_model_may_be_asked_for_by_version_alone() -> None:
    assert table(info("digits")).find("", "1").info.name == "digits"


def test_an_unknown_model_is_told_which_there_are() -> None:
    with pytest.raises(ModelNotFoundError, match="no model 'cats'; the repository has a0, digits"):
        table(info("digits"), info("a0", state="absent")).find("cats", "")
    with pytest.raises(ModelNotFoundError, match="the repository has none"):
        table().find("cats", "")


def test_an_unknown_version_is_told_which_are_served() -> None:
    with pytest.raises(ModelNotFoundError, match="'digits' has no version '7' that is served; served: 1"):
        table(info("digits")).find("digits", "7")


@pytest.mark.parametrize("state", ["absent", "loading", "failed"])
def test_a_model_that_cannot_answer_says_why(state: ModelState) -> None:
    models = table(info("digits", state=state, reason="its labels are missing"))
    with pytest.raises(ModelUnavailableError, match=f"'digits' is {state}: its labels are missing"):
        models.find("digits", "")
    with pytest.raises(ModelUnavailableError, match="no model is ready yet"):
        models.find("", "")


def test_a_ready_model_without_its_queue_is_not_found_yet() -> None:
    models = ModelTable()
    models.update([info("digits")])
    with pytest.raises(ModelUnavailableError, match="try again soon"):
        models.find("digits", "")
    models.open(0, cast("ModelQueue", QueueStandIn(info("digits"))))
    assert models.find("digits", "").info.name == "digits"
    assert models.occupied() == {("digits", "1"): 3}


def test_a_model_that_fails_later_is_no_longer_found() -> None:
    models = table(info("digits"))
    models.update([info("digits", state="failed", reason="three crashes")])
    with pytest.raises(ModelUnavailableError, match="three crashes"):
        models.find("digits", "")


def test_a_model_that_a_new_frontend_does_not_have_yet_is_worth_another_try() -> None:
    models = ModelTable(complete=False)
    with pytest.raises(ModelUnavailableError, match="the server is starting"):
        models.find("digits", "")
    models.complete = True
    with pytest.raises(ModelNotFoundError):
        models.find("digits", "")


def test_a_description_survives_its_trip_through_a_message() -> None:
    sent = ModelInfo(
        "digits",
        "3",
        "ready",
        "",
        labels=("zero", "one"),
        preprocessing=Preprocessing(resize=64, crop=48, mean=(0.5, 0.4, 0.3)),
        max_batch_size=8,
        classes=2,
        instances=(InstanceInfo("sim:310p", "simulated", "none", True, {1: 0.5, 16: 1.25}),),
        revision=7,
        input=InputInfo("image", "float32", (3, 48, 48)),
        output_name="scores",
    )
    adapter = TypeAdapter(ModelInfo)
    assert adapter.validate_json(adapter.dump_json(sent)) == sent
