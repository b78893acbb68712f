"""The real model on real photos, as a user measures it: the oracle is the guide's own code run offline."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import RunningServer, repserve

IMAGE_SETS = ("imagenet_val20", "imagenet_val650_227", "imagenet_train200")
DATA = Path(os.environ.get("REPSERVE_REAL_DATA", ""))

pytestmark = pytest.mark.skipif(
    "REPSERVE_REAL_DATA" not in os.environ, reason="REPSERVE_REAL_DATA does not name a folder of real images"
)


def _repository(folder: Path) -> Path:
    version = folder / "mobileone_s0" / "1"
    version.mkdir(parents=True)
    shutil.copy(DATA / "models" / "mobileone_s0.onnx", version / "model.onnx")
    return folder


def _oracle() -> dict[str, tuple[int, int]]:
    """For each image its label and the oracle's class."""
    with (DATA / "reference_predictions_mobileone_s0.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["image"]: (int(row["label"]), int(row["top1"])) for row in rows}


def _replay(server: RunningServer, folder: Path) -> tuple[dict[str, int], dict[str, object]]:
    """Replay all image sets with ``repserve bench run``; the predictions, and the last report."""
    predictions: dict[str, int] = {}
    for name in IMAGE_SETS:
        report, table = folder / f"{name}.json", folder / f"{name}.csv"
        done = subprocess.run(
            [
                *(repserve(), "bench", "run", "--server", server.address),
                *("--images", str(DATA / name), "--labels", str(DATA / "labels" / f"{name}.txt")),
                *("--concurrency", "32", "--output", str(report), "--predictions", str(table)),
            ],
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with table.open(encoding="utf-8", newline="") as file:
            predictions |= {row["image"]: int(row["predicted_index"]) for row in csv.DictReader(file)}
    return predictions, json.loads(report.read_text(encoding="utf-8"))


@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_served_classes_are_those_of_the_oracle(tmp_path: Path, precision: str) -> None:
    oracle = _oracle()
    with RunningServer("--precision", precision, repository=_repository(tmp_path / "repository")) as server:
        predictions, report = _replay(server, tmp_path)
    assert predictions.keys() == oracle.keys()
    assert len(oracle) == 870
    same = sum(predictions[name] == top1 for name, (_, top1) in oracle.items())
    served = sum(predictions[name] == label for name, (label, _) in oracle.items()) / len(oracle)
    expected = sum(top1 == label for label, top1 in oracle.values()) / len(oracle)
    assert abs(served - expected) <= 0.005
    if precision == "f32":
        assert same >= 0.995 * len(oracle)
        assert '"f32"' in json.dumps(report)
