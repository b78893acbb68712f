"""The real model on real photos, as a user measures it: the oracle is the guide's own code run offline.

On the CPU, and compiled for the stand-in NPU, which computes in float32.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from repserve_server.imaging.preprocessing import Preprocessing
from support.harness import RunningServer, repserve
from support.standin_models import standin_environment, write_om

IMAGE_SETS = ("imagenet_val20", "imagenet_val650_227", "imagenet_train200")
DATA = Path(os.environ.get("REPSERVE_REAL_DATA", ""))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "REPSERVE_REAL_DATA" not in os.environ, reason="REPSERVE_REAL_DATA does not name a folder of real images"
    ),
]


def _server(kind: str, folder: Path) -> RunningServer:
    """The model on the CPU at ``f32`` or ``auto``, or on the NPU in batches of 1 and 16, or with ``aipp``."""
    version = folder / "mobileone_s0" / "1"
    version.mkdir(parents=True)
    onnx = DATA / "models" / "mobileone_s0.onnx"
    if kind in ("f32", "auto"):
        shutil.copy(onnx, version / "model.onnx")
        return RunningServer("--precision", kind, repository=folder)
    for size in (1, 16):
        write_om(
            version / f"model_bs{size}.om",
            onnx,
            batch_sizes=(size,),
            aipp=Preprocessing() if kind == "npu aipp" else None,
        )
    return RunningServer("--device", "npu:0", repository=folder, environment=standin_environment())


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


@pytest.mark.parametrize("kind", ["f32", "auto", "npu", "npu aipp"])
def test_served_classes_are_those_of_the_oracle(tmp_path: Path, kind: str) -> None:
    oracle = _oracle()
    with _server(kind, tmp_path / "repository") as server:
        predictions, report = _replay(server, tmp_path)
    assert predictions.keys() == oracle.keys()
    assert len(oracle) == 870
    same = sum(predictions[name] == top1 for name, (_, top1) in oracle.items())
    served = sum(predictions[name] == label for name, (label, _) in oracle.items()) / len(oracle)
    expected = sum(top1 == label for label, top1 in oracle.values()) / len(oracle)
    assert abs(served - expected) <= 0.005
    if kind != "auto":
        assert same >= 0.995 * len(oracle)
    if kind == "f32":
        assert '"f32"' in json.dumps(report)
