"""The bench against a real server through KServe v2, and the commands that make many loads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from repserve_bench.cli import bench
from repserve_bench.errors import LoadError
from repserve_bench.predictions import read_predictions
from repserve_bench.transport.metadata import describe_model
from support.digits_server import DIGITS_ON_CPU
from support.harness import DIGITS, RunningServer, card_predictions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VALIDATION = DIGITS / "validation"
IMAGES = 40


@pytest.fixture(scope="module")
def server(shared_server: Callable[..., RunningServer]) -> RunningServer:
    return shared_server(*DIGITS_ON_CPU)


def invoke(command: str, server: RunningServer, *more: object) -> Result:
    options = [command, "--images", VALIDATION / "images", "--labels", VALIDATION / "val_label.txt"]
    options += ["--server", server.address, "--limit", IMAGES, *more]
    return CliRunner().invoke(bench, [str(option) for option in options])


def read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("kind", ["encoded", "pixels"])
@pytest.mark.parametrize("transport", ["stream", "unary", "v2"])
def test_every_way_gives_the_answers_of_the_trained_network(
    server: RunningServer, tmp_path: Path, transport: str, kind: str
) -> None:
    predictions, output = tmp_path / "predictions.csv", tmp_path / "report.json"
    result = invoke(
        *("run", server, "--transport", transport, "--input", kind),
        *("--predictions", predictions, "--output", output),
    )
    assert result.exit_code == 0, result.output
    card = card_predictions()
    assert read_predictions(predictions) == {name: card[name] for name in read_predictions(predictions)}
    report = read(output)
    assert report["requests"] == report["images"] == IMAGES
    assert report["settings"]["transport"] == transport
    assert (report["mean_compute_seconds"] is None) == (transport == "v2"), "v2 reports no stages"


def test_several_images_ride_in_a_request_of_v2(server: RunningServer, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    result = invoke(
        *("run", server, "--transport", "v2", "--input", "pixels", "--images-per-request", 16, "--output", output)
    )
    assert result.exit_code == 0, result.output
    assert (read(output)["requests"], read(output)["images"]) == (3, IMAGES)


def test_a_model_that_v2_does_not_know_is_an_error(server: RunningServer) -> None:
    with pytest.raises(LoadError, match="nothing_like_it"):
        describe_model(server.address, "nothing_like_it", "", pixels=False)


def test_a_sweep_measures_each_concurrency(server: RunningServer, tmp_path: Path) -> None:
    output, page = tmp_path / "sweep.json", tmp_path / "sweep.html"
    result = invoke(
        *("sweep", server, "--concurrency", "1,8", "--seconds", 0.5, "--window", 0.1),
        *("--output", output, "--html", page),
    )
    assert result.exit_code == 0, result.output
    points = read(output)["points"]
    assert [point["concurrency"] for point in points] == [1, 8]
    assert all(point["fps"] > 0 and point["failed_requests"] == 0 for point in points)
    assert points[0]["mean_batch_size"] == 1.0
    assert points[1]["mean_batch_size"] > 1.0
    assert "Throughput and latency" in page.read_text(encoding="utf-8")


def test_a_sweep_starts_servers_for_the_settings_it_varies(server: RunningServer, tmp_path: Path) -> None:
    output = tmp_path / "sweep.json"
    result = invoke(
        *("sweep", server, "--device", "cpu", "--model-repository", DIGITS.parent, "--model", "repvgg_digits"),
        *("--vary", "max-batch-size=1,16", "--concurrency", "16", "--seconds", 0.5, "--output", output),
    )
    assert result.exit_code == 0, result.output
    points = read(output)["points"]
    assert [point["server"] for point in points] == [{"max_batch_size": "1"}, {"max_batch_size": "16"}]
    assert points[0]["mean_batch_size"] == 1.0
    assert points[1]["mean_batch_size"] > 1.0
    assert all(point["server_cpu_milliseconds"] > 0 for point in points)


def test_a_server_that_does_not_start_does_not_cost_the_points_before(server: RunningServer, tmp_path: Path) -> None:
    output = tmp_path / "sweep.json"
    result = invoke(
        *("sweep", server, "--device", "cpu", "--model-repository", DIGITS.parent, "--model", "repvgg_digits"),
        *("--vary", "device=sim:t4,nowhere:9", "--concurrency", "4", "--seconds", 0.3, "--output", output),
    )
    assert result.exit_code == 1, result.output
    assert "Ended early: " in result.output
    document = read(output)
    (point,) = document["points"]
    assert document["error"]
    assert (point["simulated"], document["model"]["simulated"], point["devices"]) == (True, True, ["sim:t4"])
    assert "SIMULATED: repvgg_digits on sim:t4" in result.output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--concurrency", "1,x"), "expected whole numbers"),
        (("--vary", "max-batch-size=1"), "--vary needs --device"),
        (("--device", "cpu", "--model-repository", "nowhere"), "there is no folder nowhere"),
        (("--device", "cpu", "--vary", "max-batch"), "expected SETTING=VALUE"),
    ],
)
def test_a_sweep_of_nothing_is_refused(server: RunningServer, more: tuple[str, ...], message: str) -> None:
    result = invoke("sweep", server, *more)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_saturate_finds_a_rate_that_it_measured(server: RunningServer, tmp_path: Path) -> None:
    output = tmp_path / "saturate.json"
    result = invoke("saturate", server, "--p99-ms", 100, "--seconds", 0.5, "--start", 100, "--output", output)
    assert result.exit_code == 0, result.output
    document = read(output)
    passed = [step for step in document["steps"] if not step["complaint"]]
    best = next(step for step in passed if step["rate"] == document["requests_per_second"])
    assert best["latency_seconds"]["p99"] <= 0.1
    assert any(step["complaint"] for step in document["steps"]), "some rate was too high"


def test_reports_are_compared_and_drawn(server: RunningServer, tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        assert invoke("run", server, "--output", file).exit_code == 0
    compared = CliRunner().invoke(bench, ["compare", *map(str, files)])
    assert compared.exit_code == 0, compared.output
    assert "throughput, fps" in compared.output
    page = tmp_path / "page.html"
    drawn = CliRunner().invoke(bench, ["report", *map(str, files), "--output", str(page)])
    assert drawn.exit_code == 0, drawn.output
    assert page.read_text(encoding="utf-8").count("Histogram of the latency") >= 2


def test_another_file_is_no_report(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"schema": "something else"}', encoding="utf-8")
    result = CliRunner().invoke(bench, ["compare", str(file), str(file)])
    assert result.exit_code == 1
    assert "other.json" in result.output


@pytest.mark.parametrize("transport", ["stream", "v2"])
def test_the_accuracy_by_class_names_every_class(server: RunningServer, tmp_path: Path, transport: str) -> None:
    labels, output = tmp_path / "val_label.txt", tmp_path / "report.json"
    # Labels that are all wrong: the true class of an image is never its answer.
    images = sorted((VALIDATION / "images").glob("*.jpg"))[:4]
    card = card_predictions()
    labels.write_text("".join(f"{file.name} {(card[file.name] + 1) % 10}\n" for file in images), encoding="utf-8")
    result = invoke("run", server, "--labels", labels, "--transport", transport, "--output", output)
    assert result.exit_code == 0, result.output
    names = (DIGITS / "labels.txt").read_text(encoding="utf-8").split("\n")
    accuracy = read(output)["accuracy"]
    assert accuracy["classes"]
    assert all(entry["label"] == names[entry["index"]] for entry in accuracy["classes"])
    assert all(mistake["true_label"] == names[mistake["true_index"]] for mistake in accuracy["worst_mistakes"])
