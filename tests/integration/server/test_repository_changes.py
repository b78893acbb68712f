"""Versions that come and go while the server runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from repserve_protos.v1 import classification_pb2 as pb
from support.devices import take_time
from support.harness import RunningServer, refusal, wait_until
from support.versioned_runtime import add_version, expected_class, make_model

RUNTIME = ("--runtime", "support.versioned_runtime:Runtime", "--repository-poll-seconds", "0.1")


def request(version: str = "", pixel: int = 3, model: str = "versioned") -> pb.ClassifyRequest:
    data = np.full((1, 8, 8, 3), pixel, np.uint8).tobytes()
    return pb.ClassifyRequest(model=model, version=version, pixels=pb.Pixels(count=1, data=data))


def answering(server: RunningServer, version: str = "") -> str:
    """The version that answers, checked by what it answers; empty when none does."""
    try:
        response = server.stub().Classify(request(version), timeout=10)
    except grpc.RpcError:
        return ""
    assert response.predictions[0].classes[0].index == expected_class(3, int(response.version))
    return str(response.version)


def listed(server: RunningServer) -> dict[str, str]:
    """Reasons of the versions that do not answer, by version; empty for those that do."""
    return {model.version: model.reason for model in server.stub().ListModels(pb.ListModelsRequest()).models}


@pytest.mark.parametrize("mode", ["watch", "poll"])
def test_a_version_that_is_dropped_in_takes_over_and_the_old_one_goes(tmp_path: Path, mode: str) -> None:
    model = make_model(tmp_path, 1)
    with RunningServer(*RUNTIME, "--model-control-mode", mode, repository=tmp_path) as server:
        assert answering(server) == "1"
        add_version(model, 2)
        wait_until(lambda: answering(server) == "2", "version 2 answers")
        wait_until(lambda: len(server.children("worker")) == 1, "version 1 is unloaded")
        assert refusal(lambda: server.stub().Classify(request("1"), timeout=10))[0] is grpc.StatusCode.NOT_FOUND
        shutil.rmtree(model / "2")
        wait_until(lambda: answering(server) == "1", "version 1 answers again")


def test_the_series_of_a_version_go_with_it(tmp_path: Path) -> None:
    model = make_model(tmp_path, 1)
    with RunningServer(*RUNTIME, repository=tmp_path) as server:
        assert answering(server) == "1"
        assert 'version="1"' in server.metrics_page()
        add_version(model, 2)
        wait_until(lambda: answering(server) == "2", "version 2 answers")
        wait_until(lambda: 'version="1"' not in server.metrics_page(), "the series of version 1 are gone")
        assert server.metric("repserve_queue_seconds_count", version="2") >= 1
        assert server.metric("repserve_images_total", version="2") >= 1


def test_a_bad_version_is_listed_with_its_reason_and_the_good_one_serves_on(tmp_path: Path) -> None:
    model = make_model(tmp_path, 1)
    with RunningServer(*RUNTIME, repository=tmp_path) as server:
        add_version(model, 2, "broken")
        wait_until(
            lambda: "2" in listed(server) and "the model is broken" in listed(server)["2"], "the reason is listed"
        )
        assert answering(server) == "1"
        assert server.metric("repserve_model_ready", version="1") == 1
        assert server.metric("repserve_model_ready", version="2", state="failed") == 0
        assert "the model is broken" in server.log
        (model / "2" / "model.onnx").write_text("good", encoding="utf-8")
        wait_until(lambda: answering(server) == "2", "the mended version answers")


def test_all_versions_and_named_versions_are_served_side_by_side(tmp_path: Path) -> None:
    make_model(tmp_path, 1, 2, 3, name="all", toml='version_policy = "all"')
    make_model(tmp_path, 1, 2, 3, name="named", toml="version_policy = [1, 3]")
    make_model(tmp_path, 1, 2, 3, name="newest", toml="version_policy = {latest = 2}")
    with RunningServer(*RUNTIME, repository=tmp_path) as server:
        served: dict[str, list[str]] = {}
        for model in server.stub().ListModels(pb.ListModelsRequest()).models:
            served.setdefault(model.name, []).append(model.version)
            reply = server.stub().Classify(request(model.version, model=model.name), timeout=10)
            assert reply.predictions[0].classes[0].index == expected_class(3, int(model.version))
        assert served == {"all": ["1", "2", "3"], "named": ["1", "3"], "newest": ["2", "3"]}


def test_a_model_that_is_dropped_in_is_served_and_one_that_is_removed_is_not(tmp_path: Path) -> None:
    first = make_model(tmp_path, 1)
    with RunningServer(*RUNTIME, repository=tmp_path) as server:
        make_model(tmp_path, 4, name="other")

        def served() -> bool:
            try:
                return bool(server.stub().Classify(request(model="other"), timeout=10).version == "4")
            except grpc.RpcError:
                return False

        wait_until(served, "the other model answers")
        shutil.rmtree(first)
        wait_until(lambda: answering(server) == "", "the first model is gone")
        assert served()


def test_a_folder_that_is_copied_slowly_is_loaded_when_it_is_whole(tmp_path: Path) -> None:
    model = make_model(tmp_path, 1)
    with RunningServer(*RUNTIME, repository=tmp_path) as server:
        (model / "2").mkdir()
        for part in "good":
            with (model / "2" / "model.onnx").open("a", encoding="utf-8") as file:
                file.write(part)
            take_time(0.4)
        wait_until(lambda: answering(server) == "2", "version 2 answers")
        assert "cannot serve" not in server.log


def test_a_model_toml_that_cannot_be_read_changes_nothing_that_is_served(tmp_path: Path) -> None:
    model = make_model(tmp_path, 1)
    with RunningServer(*RUNTIME, repository=tmp_path) as server:
        (model / "model.toml").write_text("max_batch_size = ", encoding="utf-8")
        wait_until(lambda: "is not valid TOML" in listed(server).get("", ""), "the problem is listed")
        assert answering(server) == "1"


def test_in_explicit_mode_nothing_is_followed(tmp_path: Path) -> None:
    model = make_model(tmp_path, 1)
    make_model(tmp_path, 1, name="other")
    with RunningServer(
        *RUNTIME, "--model-control-mode", "explicit", "--model", "versioned", repository=tmp_path
    ) as server:
        add_version(model, 2)
        assert answering(server) == "1"
        states = {entry.name: entry.ready for entry in server.stub().ListModels(pb.ListModelsRequest()).models}
        assert states == {"versioned": True, "other": False}


def test_a_version_that_fails_its_golden_check_is_not_served(tmp_path: Path) -> None:
    model = make_model(tmp_path, 1)
    (model / "golden").mkdir()
    Image.new("RGB", (8, 8), (3, 3, 3)).save(model / "golden" / "three.png")
    golden = f'[[image]]\nfile = "three.png"\nclass = {expected_class(3, 1)}\n'
    (model / "golden" / "golden.toml").write_text(golden, encoding="utf-8")
    with RunningServer(*RUNTIME, repository=tmp_path) as server:
        assert "passed its golden check: 1 images" in server.log
        add_version(model, 2)
        wait_until(lambda: "golden check" in listed(server).get("2", ""), "the reason is listed")
        assert answering(server) == "1"
