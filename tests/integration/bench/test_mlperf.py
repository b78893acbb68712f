"""LoadGen drives a real server."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from click.testing import CliRunner, Result

from repserve_bench.cli import bench
from repserve_bench.mlperf.scenario import SCENARIOS
from support.fake_server import FakeServer, Refusal
from support.harness import DIGITS, RunningServer

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("mlperf_loadgen", reason="LoadGen is not installed: pip install 'repserve[mlperf]'")

pytestmark = pytest.mark.slow

VALIDATION = DIGITS / "validation"


def mlperf(address: str, folder: Path, *more: object) -> Result:
    options = ["--images", VALIDATION / "images", "--labels", VALIDATION / "val_label.txt", "--server", address]
    options += ["--logs", folder / "logs", "--output", folder / "mlperf.json", *more]
    return CliRunner().invoke(bench, ["mlperf", *map(str, options)])


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "mlperf.json").read_text(encoding="utf-8"))
    return content


def test_the_four_scenarios_are_valid_and_as_accurate_as_the_model(tmp_path: Path) -> None:
    card = json.loads((DIGITS / "model_card.json").read_text(encoding="utf-8"))
    with RunningServer("--model", "repvgg_digits", "--precision", "f32") as server:
        result = mlperf(
            *(server.address, tmp_path, "--seconds", 1, "--server-rate", 200, "--server-latency-ms", 500),
            *("--accuracy", "--html", tmp_path / "page.html"),
        )
    assert result.exit_code == 0, result.output
    document = read(tmp_path)
    assert [entry["scenario"] for entry in document["scenarios"]] == list(SCENARIOS)
    for entry in document["scenarios"]:
        assert entry["result"] == "VALID", entry
        assert entry["value"] > 0
        assert entry["top1"] == pytest.approx(card["top1"], abs=1e-4)
        summary = (tmp_path / "logs" / entry["scenario"] / "mlperf_log_summary.txt").read_text(encoding="utf-8")
        assert "Result is : VALID" in summary, "LoadGen's own logs are kept"
    assert "MLPerf LoadGen: repvgg_digits" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_scenario_whose_requests_fail_is_invalid(tmp_path: Path) -> None:
    with FakeServer() as fake:
        answer = fake.script
        sizes = sorted(path.stat().st_size for path in (VALIDATION / "images").glob("*.jpg"))[:20]

        def script(request: Any) -> Any:  # noqa: ANN401 - of the fake
            if len(request.encoded_image) in sizes:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "a bad image")
            return answer(request)

        fake.script = script
        result = mlperf(fake.address, tmp_path, "--scenario", "Offline", "--seconds", 0.2)
    assert result.exit_code == 1
    assert "INVALID_ARGUMENT: a bad image" in result.output
    entry = read(tmp_path)["scenarios"][0]
    assert entry["result"] == "INVALID"
    assert entry["failed_requests"] > 0


def test_no_server_is_an_error_of_one_line(tmp_path: Path) -> None:
    result = mlperf("127.0.0.1:1", tmp_path)
    assert result.exit_code == 1
    assert "start one with 'repserve serve'" in result.output


def test_a_request_that_fails_while_accuracy_is_measured_makes_the_scenario_invalid(tmp_path: Path) -> None:
    with FakeServer() as fake:
        answer = fake.script
        folder = tmp_path / "logs" / "Offline" / "accuracy"

        def script(request: Any) -> Any:  # noqa: ANN401 - of the fake
            if folder.is_dir():
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "going down")
            return answer(request)

        fake.script = script
        result = mlperf(fake.address, tmp_path, "--scenario", "Offline", "--seconds", 0.2, "--accuracy")
    assert result.exit_code == 1, result.output
    entry = read(tmp_path)["scenarios"][0]
    assert (entry["result"], entry["top1"]) == ("INVALID", None)
    assert "UNAVAILABLE: going down" in entry["remark"]


def test_a_server_that_refuses_everything_is_an_error_of_one_line(tmp_path: Path) -> None:
    with FakeServer() as fake:

        def refuse(_: Any) -> Any:  # noqa: ANN401 - of the fake
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "no [such] image")

        fake.script = refuse
        result = mlperf(fake.address, tmp_path, "--seconds", 0.2)
    assert result.exit_code == 1
    assert "the server answered nothing: INVALID_ARGUMENT: no [such] image" in result.output


def test_answers_without_a_class_end_the_run_and_are_reported(tmp_path: Path) -> None:
    with FakeServer() as fake:
        answer, seen = fake.script, threading.Event()
        folder = tmp_path / "logs" / "Offline"

        def script(request: Any) -> Any:  # noqa: ANN401 - of the fake
            response = answer(request)
            if folder.is_dir():
                del response.predictions[:]
                seen.set()
            return response

        fake.script = script
        result = mlperf(fake.address, tmp_path, "--scenario", "Offline", "--seconds", 0.2)
    assert seen.is_set()
    assert result.exit_code == 1
    assert "no class answered" in result.output


def test_simulated_devices_have_no_top1(tmp_path: Path) -> None:
    with RunningServer("--model", "repvgg_digits", "--device", "sim:310p") as server:
        result = mlperf(server.address, tmp_path, "--scenario", "SingleStream", "--seconds", 0.2, "--accuracy")
    assert "top-1 is not measured: simulated" in result.output
    assert read(tmp_path)["scenarios"][0]["top1"] is None
    assert "SIMULATED: repvgg_digits" in result.output
