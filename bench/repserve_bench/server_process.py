"""A server of one's own for a measurement: started, watched for its CPU time, and stopped."""

from __future__ import annotations

import atexit
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from repserve_bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

START_TIMEOUT = 120.0
STOP_TIMEOUT = 20.0
POLL_INTERVAL = 0.05
TAIL_LINES = 15


class ServerError(BenchError):
    """The server did not start; the message ends with the last lines of its log."""


@dataclass(frozen=True)
class ServerSettings:
    """How ``repserve serve`` is started; ports are free ones of 127.0.0.1."""

    model_repository: Path
    device: str
    models: Sequence[str] = ()
    """Only these models of the repository; empty is all."""
    max_batch_size: int | None = None
    precision: str | None = None
    extra: Sequence[str] = ()
    """Further arguments."""

    def command(self, ready_file: Path) -> list[str]:
        """Return the command line."""
        command = [
            *(sys.executable, "-m", "repserve_client.cli", "serve"),
            *("--model-repository", str(self.model_repository), "--device", self.device),
            *("--host", "127.0.0.1", "--shutdown-delay-seconds", "0"),
            *("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"),
            *("--ready-file", str(ready_file)),
        ]
        if self.max_batch_size is not None:
            command += ["--max-batch-size", str(self.max_batch_size)]
        if self.precision is not None:
            command += ["--precision", self.precision]
        for model in self.models:
            command += ["--model", model]
        return [*command, *self.extra]


class ServerProcess:
    """Context manager around a running server; it is ready inside the block and gone after it."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.address = ""
        """host:port of gRPC."""
        self.metrics_url = ""
        """Base URL of the metrics, without a path."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="repserve-bench-")
        log, ready_file = Path(self._folder.name) / "server.log", Path(self._folder.name) / "ready.json"
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                self._settings.command(ready_file),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        atexit.register(self.stop)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            # Ended from outside, such as by a time limit: leave by way of atexit, which stops the server too.
            signal.signal(signal.SIGTERM, _exit_on_signal)
        try:
            ready = self._wait_until_ready(ready_file, log)
        except BaseException:
            self.stop()
            raise
        self.address, self.metrics_url = ready["grpc"], ready["metrics"]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def device(self) -> str:
        """The device it was started with."""
        return self._settings.device

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server's processes have used so far, ended children included."""
        total = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def resident_bytes(self) -> int:
        """Return the memory that the server's processes hold now; slots that they share count in each."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def stop(self) -> None:
        """End the server with SIGTERM; kill it and its children when it does not end in time."""
        atexit.unregister(self.stop)
        processes = self._processes()
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                for child in processes[1:]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if self._process is not None:
                parent = psutil.Process(self._process.pid)
                return [parent, *parent.children(recursive=True)]
        return []

    def _wait_until_ready(self, ready_file: Path, log: Path) -> dict[str, str]:
        deadline = time.monotonic() + START_TIMEOUT
        while not ready_file.exists():
            status = self._process.poll() if self._process is not None else 0
            if status is not None:
                raise ServerError(f"the server ended with exit status {status} before it was ready:\n{_tail(log)}")
            if time.monotonic() > deadline:
                raise ServerError(f"the server was not ready after {START_TIMEOUT:.0f} s:\n{_tail(log)}")
            time.sleep(POLL_INTERVAL)
        ready: dict[str, str] = json.loads(ready_file.read_text(encoding="utf-8"))
        return ready


def _exit_on_signal(number: int, _: object) -> None:
    sys.exit(128 + number)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-TAIL_LINES:]) or "(it printed nothing)"
