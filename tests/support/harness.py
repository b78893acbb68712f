"""A real server in real processes for the tests, and waiting for conditions without sleeping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from repserve_protos.v1.classification_pb2_grpc import ClassificationStub

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
MODEL_REPOSITORY = ROOT / "model_repo"
DIGITS = MODEL_REPOSITORY / "repvgg_digits"
DIGIT_IMAGES = DIGITS / "validation" / "images"
START_SECONDS = 60.0
STOP_SECONDS = 40.0

_tick = threading.Event()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Return as soon as ``condition`` holds; fail the test, naming ``what``, if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        _tick.wait(0.02)


def digit_files() -> list[Path]:
    """The held-out digit images, by name."""
    return sorted(DIGIT_IMAGES.glob("*.jpg"))


def card_predictions() -> dict[str, int]:
    """What the trained network says of each held-out image, from the model card."""
    card = json.loads((DIGITS / "model_card.json").read_text(encoding="utf-8"))
    return {str(name): int(index) for name, index in card["predictions"].items()}


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The status code and message that a call fails with; the test fails if the call succeeds."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details() or ""


class RunningServer:
    """``repserve serve`` as a user starts it, on free ports of 127.0.0.1; ready inside the ``with`` block."""

    def __init__(
        self,
        *arguments: str,
        repository: Path = MODEL_REPOSITORY,
        environment: dict[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="repserve-test-")
        folder = Path(self._folder.name)
        self._ready_file, self._log_file, self._output_file = folder / "ready.json", folder / "log", folder / "output"
        self._wait = wait
        self._command = [
            *(sys.executable, "-m", "repserve_client.cli", "serve", "--model-repository", str(repository)),
            *("--host", "127.0.0.1", "--ready-file", str(self._ready_file)),
            *(() if "--grpc-port" in arguments else ("--grpc-port", "0")),
            *(() if "--metrics-port" in arguments else ("--metrics-port", "0")),
            *(() if "--http-port" in arguments else ("--http-port", "0")),
            *(() if "--shutdown-delay-seconds" in arguments else ("--shutdown-delay-seconds", "0")),
            *arguments,
        ]
        python_path = os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))
        self._environment = {**os.environ, "PYTHONPATH": python_path, **(environment or {})}
        self.address = ""
        self.metrics_url = ""
        self.http_url = ""

    def __enter__(self) -> Self:
        with self._log_file.open("wb") as log, self._output_file.open("wb") as output:
            # A session of its own, so that a test can send Ctrl-C to the whole group.
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        if self._wait:
            wait_until(
                lambda: self._ready_file.exists() or self.process.poll() is not None,
                "the server is ready",
                START_SECONDS,
            )
            assert self._ready_file.exists(), f"the server ended before it was ready:\n{self.log}"
            ready = json.loads(self._ready_file.read_text(encoding="utf-8"))
            self.address, self.metrics_url, self.http_url = ready["grpc"], ready["metrics"], ready["http"]
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            family = self.family()
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for process in family:
                    if process.is_running():
                        process.kill()
                self.process.wait(STOP_SECONDS)
                raise
        self._folder.cleanup()

    @property
    def log(self) -> str:
        """What the server has logged so far: its standard error."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self) -> str:
        """What the server has printed to standard output so far."""
        return self._output_file.read_text(encoding="utf-8", errors="replace")

    def stub(self) -> ClassificationStub:
        """A stub on a new connection."""
        channel = grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])
        return ClassificationStub(channel)

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        supervisor = psutil.Process(self.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def children(self, role: str) -> list[psutil.Process]:
        """The processes of a role: ``frontend`` or ``worker``."""
        module = {"frontend": "repserve_server.frontend.process", "worker": "repserve_server.worker.process"}[role]
        found = []
        for process in self.family()[1:]:
            try:
                if module in process.cmdline():
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def metrics_page(self) -> str:
        """What Prometheus reads."""
        with urllib.request.urlopen(f"{self.metrics_url}/metrics", timeout=10) as reply:  # noqa: S310 - our own server
            return str(reply.read().decode())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that carry these labels; 0 where there is none."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.metrics_page())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def signal_and_wait(self, number: int) -> int:
        """Send a signal to the supervisor and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def repserve() -> str:
    """The installed command, beside this interpreter."""
    return str(Path(sys.executable).parent / "repserve")
