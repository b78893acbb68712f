from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from repserve_bench.cli import bench
from support.fake_server import FakeServer, Refusal, default_answer

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_protos.v1 import classification_pb2 as pb

IMAGES = 12
WAIT = 30.0


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    lines = []
    for number in range(IMAGES):
        data = b"\x00" * (100 + number)
        (folder / f"{number:02}.jpg").write_bytes(data)
        lines.append(f"{number:02}.jpg {len(data) % 10}")
    (tmp_path / "val_label.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


def arguments(server: FakeServer, images: Path, *more: str) -> list[str]:
    labels, output = images.parent / "val_label.txt", images.parent / "report.json"
    options = ["--images", images, "--labels", labels, "--server", server.address, "--output", output]
    return ["run", *map(str, options), *more]


def bench_run(server: FakeServer, images: Path, *more: str) -> Result:
    return CliRunner().invoke(bench, arguments(server, images, *more))


def read_report(images: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((images.parent / "report.json").read_text(encoding="utf-8"))
    return content


def test_a_clean_replay_exits_with_0_and_writes_its_files(server: FakeServer, images: Path) -> None:
    predictions = images.parent / "predictions.csv"
    result = bench_run(server, images, "--epochs", "2", "--predictions", str(predictions))
    assert result.exit_code == 0, result.output
    assert "12 images with labels" in result.output
    assert "100.00 %" in result.output
    report = read_report(images)
    assert report["requests"] == 2 * IMAGES
    assert report["failed_requests"] == 0
    assert predictions.read_text(encoding="utf-8").splitlines()[1] == "00.jpg,0,0,0.900000,0,1"


def test_failed_requests_make_the_exit_status_1(server: FakeServer, images: Path) -> None:
    def script(request: pb.ClassifyRequest) -> pb.ClassifyResponse:
        if len(request.encoded_image) == 105:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "corrupt JPEG")
        return default_answer(request)

    server.script = script
    result = bench_run(server, images)
    assert result.exit_code == 1
    assert "INVALID_ARGUMENT: corrupt JPEG" in result.output
    assert read_report(images)["statuses"] == {"OK": IMAGES - 1, "INVALID_ARGUMENT": 1}


def test_leftovers_are_printed(server: FakeServer, images: Path) -> None:
    (images / "extra.jpg").write_bytes(b"x")
    (images / "11.jpg").unlink()
    result = bench_run(server, images)
    assert result.exit_code == 0
    assert "1 images without a label" in result.output
    assert "1 labels without an image" in result.output


def test_none_in_common_is_an_error(server: FakeServer, images: Path) -> None:
    (images.parent / "val_label.txt").write_text("other.jpg 1\n", encoding="utf-8")
    result = bench_run(server, images)
    assert result.exit_code == 1
    assert "none of the 12 images" in result.output
    assert not server.stream_requests


def test_a_simulated_model_gets_no_accuracy(server: FakeServer, images: Path) -> None:
    instance = server.models[0].instances[0]
    instance.device, instance.simulated = "sim:310p", True
    result = bench_run(server, images)
    assert result.exit_code == 0
    assert "SIMULATED" in result.output
    assert "not measured: simulated" in result.output
    assert "100.00 %" not in result.output


def test_pixels_are_cropped_by_the_client(server: FakeServer, images: Path) -> None:
    for path in images.iterdir():
        Image.new("RGB", (300, 260), (7, 7, 7)).save(path, "JPEG")
    result = bench_run(server, images, "--input", "pixels", "--images-per-request", "8")
    assert result.exit_code == 0, result.output
    requests = [item.request for item in server.stream_requests]
    assert sorted(request.pixels.count for request in requests) == [4, 8]
    assert all(len(request.pixels.data) == request.pixels.count * 224 * 224 * 3 for request in requests)
    assert read_report(images)["images"] == IMAGES


def test_a_model_that_is_not_ready_is_an_error_with_its_reason(server: FakeServer, images: Path) -> None:
    server.models[0].ready, server.models[0].reason = False, "no version yet: run 'repserve convert'"
    result = bench_run(server, images)
    assert result.exit_code == 1
    assert "no version yet: run 'repserve convert'" in result.output


@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "2", "--requests", "5"],
        ["--images-per-request", "4"],
        ["--processes", "none"],
        ["--concurrency", "0"],
        ["--html", "nowhere/report.html"],
    ],
)
def test_options_that_make_no_sense_are_refused(server: FakeServer, images: Path, options: list[str]) -> None:
    assert bench_run(server, images, *options).exit_code == 2


def test_an_html_report_without_its_packages_is_refused_before_anything_is_measured(
    server: FakeServer, images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = bench_run(server, images, "--html", str(tmp_path / "page.html"))
    assert result.exit_code == 2
    assert "jinja2 and matplotlib" in result.output
    assert "pip install 'repserve[bench,report]'" in result.output
    assert not server.unary_requests


class RunningBench:
    """``repserve bench run`` in a process of its own, with requests coming in."""

    def __init__(self, server: FakeServer, images: Path) -> None:
        # As in a terminal: a job that a script starts in the background inherits a SIGINT that is ignored.
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from repserve_bench.cli import bench; bench()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments(server, images, "--seconds", "100", "--processes", "2")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert server.wait_for(lambda fake: len(fake.stream_requests) > 2 * IMAGES, WAIT)
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.children) == 2

    def __enter__(self) -> RunningBench:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=WAIT)


def test_ctrl_c_prints_what_was_measured_and_exits_with_130(server: FakeServer, images: Path) -> None:
    with RunningBench(server, images) as running:
        running.process.send_signal(signal.SIGINT)
        output, _ = running.process.communicate(timeout=WAIT)
        assert running.process.returncode == 130, output
        assert "(interrupted)" in output
        assert "Traceback" not in output
        assert read_report(images)["interrupted"] is True
        assert not psutil.wait_procs(running.children, timeout=WAIT)[1]


def test_load_processes_end_with_their_parent(server: FakeServer, images: Path) -> None:
    with RunningBench(server, images) as running:
        running.process.kill()
        assert not psutil.wait_procs(running.children, timeout=WAIT)[1]
