"""The report, for people and for programs, and the examination as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.channel.worker_messages import LoadWorker
from repserve_server.doctor.check import Check, Group, Status, as_warnings, can_serve, not_needed
from repserve_server.doctor.examination import examine
from repserve_server.doctor.machine import Machine
from repserve_server.doctor.report import format_report, format_verdict, report_body
from repserve_server.doctor.trial import Trial, TryModel
from repserve_server.settings import Settings
from support.doctor_machines import READY, empty_machine, npu_machine, remove

OK = Check(Group.ASCEND, "CANN", Status.OK, "8.0.RC1")
WARNING = Check(Group.MODELS, "digits", Status.WARNING, "its weights are random", "convert trained ones")
PROBLEM = Check(Group.MACHINE, "gRPC port", Status.PROBLEM, "8001 is taken", "choose another")

checks = st.builds(
    Check,
    st.sampled_from(Group),
    st.text("abc ", min_size=1, max_size=8).filter(str.strip),
    st.sampled_from(Status),
    st.lists(st.text("abcdef-/", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join),
    st.lists(st.text("abcdef-/", min_size=1, max_size=12), min_size=1, max_size=30).map(" ".join),
)


def test_each_check_is_a_line_with_a_mark_and_advice_below_it() -> None:
    assert click.unstyle(format_report([OK, WARNING, PROBLEM], 80)).splitlines() == [
        "Ascend",
        "ok       CANN: 8.0.RC1",
        "",
        "Models",
        "warning  digits: its weights are random",
        "           → convert trained ones",
        "",
        "Machine",
        "PROBLEM  gRPC port: 8001 is taken",
        "           → choose another",
        "",
        "serving cannot work with these settings (1 problem, 1 warning)",
    ]


@given(st.lists(checks, max_size=8))
def test_no_line_is_too_wide_and_no_word_is_torn(found: list[Check]) -> None:
    text = click.unstyle(format_report(found, 80))
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for check in found:
        assert set(check.found.split()) <= set(words)
        assert set(check.advice.split()) <= set(words)


def test_a_path_that_is_wider_than_the_terminal_is_left_whole() -> None:
    path = "/models/" + "a" * 100
    assert path in format_report([Check(Group.MODELS, "m", Status.WARNING, "not there", f"look at {path}")], 80)


@given(st.lists(checks, max_size=8))
def test_programs_get_every_check_and_the_verdict(found: list[Check]) -> None:
    body = json.loads(json.dumps(report_body(found)))
    assert (body["schema"], body["schema_version"]) == ("repserve.doctor", 1)
    assert [entry["name"] for entry in body["checks"]] == [check.name for check in found]
    assert body["ok"] is all(entry["status"] != "problem" for entry in body["checks"])
    assert body["ok"] is not ("cannot" in format_verdict(found))


def test_a_check_of_the_report_for_programs() -> None:
    assert report_body([WARNING])["checks"] == [
        {
            "name": "digits",
            "group": "Models",
            "status": "warning",
            "found": "its weights are random",
            "advice": "convert trained ones",
        }
    ]


@pytest.mark.parametrize("status", [Status.WARNING, Status.PROBLEM])
def test_whoever_says_what_is_wrong_says_what_to_do(status: Status) -> None:
    with pytest.raises(ValueError, match="has no advice"):
        Check(Group.MACHINE, "memory", status, "there is none")


def test_what_is_not_needed_is_told_and_does_not_count() -> None:
    kept, changed = not_needed([OK, PROBLEM], "not needed for cpu")
    assert kept is OK
    assert (changed.status, changed.found, changed.advice) == (
        Status.NOT_NEEDED,
        "not needed for cpu: 8001 is taken",
        "",
    )


def test_problems_become_warnings_with_the_reason() -> None:
    (changed,) = as_warnings([PROBLEM], "models run all the same")
    assert (changed.status, changed.found) == (Status.WARNING, "8001 is taken; models run all the same")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "m" / "1"
    folder.mkdir(parents=True)
    for file in ("model.onnx", "model_bs1.om"):
        (folder / file).write_bytes(b"")
    return folder.parent.parent


def examined(machine: Machine, repository: Path, device: str, try_model: TryModel | None) -> dict[str, Check]:
    settings = Settings(
        model_repository=repository, device=(device,), host="127.0.0.1", grpc_port=0, metrics_port=0, frontends=1
    )
    return {check.name: check for check in examine(machine, settings, try_model, lambda _: None)}


def works(load: LoadWorker, _: float) -> Trial:
    assert load.device in ("npu:0", "cpu")
    return Trial(ready=READY)


def test_a_healthy_npu_machine_can_serve(tmp_path: Path, repository: Path) -> None:
    found = examined(npu_machine(tmp_path), repository, "npu:0", works)
    assert can_serve(found.values())
    assert found["aclruntime, ais_bench"].found == "aclruntime 0.0.2, ais_bench 0.0.2"
    assert found["m on npu:0"].status is Status.OK


def test_what_is_amiss_with_ascend_is_told_and_not_counted_on_a_cpu(tmp_path: Path, repository: Path) -> None:
    found = examined(empty_machine(tmp_path), repository, "cpu", works)
    assert can_serve(found.values())
    for name in ("CANN", "driver", "device nodes", "npu-smi", "aclruntime, ais_bench"):
        assert found[name].status is Status.NOT_NEEDED
        assert found[name].found.startswith("not needed for cpu: ")


def test_a_model_that_runs_shows_that_the_driver_works(tmp_path: Path, repository: Path) -> None:
    machine = npu_machine(tmp_path)
    remove(tmp_path, "/dev/hisi_hdc")
    untried = examined(machine, repository, "npu:0", None)
    assert untried["device nodes"].status is Status.PROBLEM
    tried = examined(machine, repository, "npu:0", works)
    assert (tried["device nodes"].status, tried["device nodes"].found) == (
        Status.WARNING,
        "missing: /dev/hisi_hdc; models run all the same",
    )


def test_without_the_vendors_packages_no_model_is_tried(tmp_path: Path, repository: Path) -> None:
    def never(*_: object) -> Trial:
        raise AssertionError("nothing is to be loaded")

    found = examined(empty_machine(tmp_path), repository, "npu:0", never)
    assert found["aclruntime, ais_bench"].status is Status.PROBLEM
    assert "m on npu:0" not in found


def test_a_device_of_no_known_kind_is_a_problem(tmp_path: Path, repository: Path) -> None:
    found = examined(empty_machine(tmp_path), repository, "gpu:0", None)["device gpu:0"]
    assert (found.status, "npu:0" in found.advice) == (Status.PROBLEM, True)
