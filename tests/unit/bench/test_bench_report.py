from __future__ import annotations

import csv
import io
import json
from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from repserve_bench.accuracy import Accuracy
from repserve_bench.column import rich_list
from repserve_bench.dataset import Dataset, Sample
from repserve_bench.figures import RUN_FIGURES, point_json, run_json
from repserve_bench.html.page import render as render_page
from repserve_bench.load import LoadResult
from repserve_bench.load_messages import LoadSettings
from repserve_bench.load_options import Prepared
from repserve_bench.measurement import Measurement
from repserve_bench.predictions import Prediction, read_predictions, write_predictions
from repserve_bench.report_file import write_json
from repserve_bench.run import run_markdown
from repserve_bench.sweep import Sweep
from repserve_bench.tally import Tally
from repserve_bench.windows import Stability
from repserve_client.results import InstanceInfo, ModelInfo, RankedClass

INSTANCE = InstanceInfo(device="cpu", backend="openvino", precision="f32", simulated=False, batch_seconds={})
SIMULATED = InstanceInfo(device="sim:310p", backend="simulated", precision="none", simulated=True, batch_seconds={})
MODEL = ModelInfo(name="digits", version="1", ready=True, reason="", crop=224, classes=10, instances=(INSTANCE,))
SETTINGS = LoadSettings("127.0.0.1:8001")


@pytest.fixture
def report() -> Measurement:
    tally = Tally(
        requests=5,
        images=4,
        latencies=array("d", [0.010, 0.020, 0.030, 0.040]),
        statuses=Counter(OK=4, INTERNAL=1),
        retries=Counter(UNAVAILABLE=2),
        failures={"INTERNAL": "a NaN"},
        accuracy=Accuracy(images=4, top1_hits=3, top5_hits=4),
        versions=Counter({"1": 4}),
        batch_sizes=Counter({2: 4}),
        decode_seconds=0.004,
        queue_seconds=0.008,
        compute_seconds=0.012,
    )
    result = LoadResult(
        tally=tally,
        elapsed=2.0,
        processes=1,
        cpu_seconds=0.5,
        busiest_share=0.25,
        predictions={
            "b.jpg": Prediction(RankedClass(7, "seven", 0.75), (7, 3)),
            "a.jpg": Prediction(RankedClass(3, "three, or so", 0.5), (3,)),
        },
        requests_kept=True,
        stability=Stability(1.0, ()),
    )
    dataset = Dataset((Sample(Path("a.jpg"), 3), Sample(Path("b.jpg"), 7)), 1, 2)
    return Measurement(dataset, SETTINGS, MODEL, result)


def render(report: Measurement) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(rich_list(RUN_FIGURES, run_json(report), "title"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_shows_what_was_measured(report: Measurement) -> None:
    text = render(report)
    for part in (
        "cpu (openvino, precision f32)",
        "2.0 fps",
        "20.00 ms",
        "40.00 ms",
        "75.00 %",
        "100.00 %",
        "INTERNAL 1",
        "UNAVAILABLE 2",
        "1.00 ms",
        "2.00 ms",
        "3.00 ms",
    ):
        assert part in text
    assert "SIMULATED" not in text


def test_a_model_of_random_weights_has_no_accuracy_anywhere(report: Measurement) -> None:
    random = replace(report, model=replace(MODEL, caution="RANDOM WEIGHTS (seed 0)."))
    assert render(random).count("not measured: RANDOM WEIGHTS (seed 0).") == 2
    accuracy = run_json(random)["accuracy"]
    assert (accuracy["top1"], accuracy["top5"], accuracy["classes"]) == (None, None, [])
    assert accuracy["missing"] == "not measured: RANDOM WEIGHTS (seed 0)."


def test_a_simulated_model_has_no_accuracy_anywhere(report: Measurement) -> None:
    simulated = replace(report, model=replace(MODEL, instances=(SIMULATED,)))
    text = render(simulated)
    assert "SIMULATED" in text
    assert text.count("not measured: simulated") == 2
    assert "75.00 %" not in text
    content = json.loads(json.dumps(run_json(simulated), default=str))
    accuracy = content["accuracy"]
    assert (accuracy["top1"], accuracy["top5"], accuracy["classes"]) == (None, None, [])
    assert accuracy["missing"] == "not measured: simulated"
    assert content["model"]["simulated"] is True


def test_without_labels_there_is_no_accuracy(report: Measurement) -> None:
    unlabelled = replace(report, dataset=Dataset((Sample(Path("a.jpg")),)))
    assert "not measured: no labels" in render(unlabelled)


def test_the_json_file_holds_everything(report: Measurement, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    write_json(file, run_json(report))
    content = json.loads(file.read_text(encoding="utf-8"))
    assert (content["schema"], content["schema_version"]) == ("repserve.bench.run", 2)
    accuracy = content["accuracy"]
    assert (accuracy["images"], accuracy["top1"], accuracy["top5"]) == (4, 0.75, 1.0)
    assert content["latency_seconds"] == {
        "p50": 0.02,
        "p90": 0.04,
        "p95": 0.04,
        "p99": 0.04,
        "p99.9": 0.04,
        "max": 0.04,
    }
    assert content["failed_requests"] == 1
    assert content["statuses"] == {"OK": 4, "INTERNAL": 1}
    assert content["mean_batch_size"] == 2
    assert content["settings"]["concurrency"] == 32
    assert content["dataset"]["images_without_label"] == 1
    assert content["dataset"]["labels_without_image"] == 2
    environment = content["environment"]
    assert environment["cores"] >= 1
    assert environment["date_utc"].endswith("+00:00")
    assert "grpcio" in environment["packages"]


def test_predictions_are_written_by_image(report: Measurement, tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    write_predictions(file, report.dataset.samples, report.result.predictions)
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [tuple(row.values()) for row in rows] == [
        ("a.jpg", "3", "three, or so", "0.500000", "3", "1"),
        ("b.jpg", "7", "seven", "0.750000", "7", "1"),
    ]
    assert tuple(rows[0]) == ("image", "predicted_index", "label", "probability", "true_index", "in_top5")
    assert read_predictions(file) == {"a.jpg": 3, "b.jpg": 7}


def test_a_busy_client_is_a_warning(report: Measurement) -> None:
    assert not any("bottleneck" in line for line in report.warnings())
    busy = replace(report, result=replace(report.result, busiest_share=0.95))
    assert any("client was the bottleneck" in line for line in busy.warnings())


def test_failures_are_listed_with_their_message(report: Measurement) -> None:
    assert "INTERNAL: a NaN" in report.warnings()


def test_nothing_answered_is_shown_without_figures(report: Measurement) -> None:
    empty = replace(
        report,
        result=replace(report.result, tally=Tally(requests=3, statuses=Counter(INTERNAL=3)), predictions={}),
    )
    text = render(empty)
    assert text.count(" - ") >= 6, "no percentile has a value"
    assert "no labelled image was answered" in text


def test_every_class_has_its_name_also_one_that_was_never_the_answer(report: Measurement) -> None:
    dataset = Dataset((Sample(Path("a.jpg"), 5), Sample(Path("b.jpg"), 7)))
    named = replace(report, dataset=dataset, labels={5: "five", 7: "seven"})
    accuracy = run_json(named)["accuracy"]
    assert [(entry["index"], entry["label"]) for entry in accuracy["classes"]] == [(5, "five"), (7, "seven")]
    assert accuracy["worst_mistakes"][0]["true_label"] == "five"


def test_markdown_has_the_figures_and_the_warnings(report: Measurement) -> None:
    text = run_markdown(run_json(report))
    assert "| throughput | 2.0 fps |" in text
    assert "- INTERNAL: a NaN" in text


def test_the_page_of_a_sweep_on_a_server_that_names_no_device_calls_it_unknown(report: Measurement) -> None:
    model = replace(MODEL, instances=())
    sweep = Sweep(seconds=1.0, points=[{**point_json(replace(report, model=model)), "server": {}}])
    sweep.prepared = Prepared(report.dataset, model, SETTINGS, passes=2)
    assert "digits on an unknown device</h2>" in render_page([sweep.to_json()])
