"""The worker's process: loads its model, warms it up, says what it measured, then runs the loop until told to stop."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from repserve_server.backends.base import Backend, BackendError, DeviceError, image_specs, preprocessing_of
from repserve_server.backends.factory import create_backend
from repserve_server.channel.control import ControlChannel, ControlMessage
from repserve_server.channel.link import Link, LinkClosedError
from repserve_server.channel.slots import SlotArea, SlotLayout
from repserve_server.errors import RepServeError
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.logs import configure_logging, set_log_level
from repserve_server.metrics import take_snapshot
from repserve_server.process import DEVICE_FAILED, become_child
from repserve_server.repository.golden import find_golden
from repserve_server.worker.golden import check_golden
from repserve_server.worker.loop import WorkerLoop
from repserve_server.worker.metrics import WorkerMetrics
from repserve_server.worker.options import read_options
from repserve_server.worker.planner import BatchCosts
from repserve_server.worker.warm_up import measure_costs

logger = logging.getLogger(__name__)


class WorkerProcess:
    """Ties the loop to the supervisor's control channel."""

    def __init__(self, control: ControlChannel, backend: Backend, costs: BatchCosts, metrics: WorkerMetrics) -> None:
        self._control, self._backend, self._metrics = control, backend, metrics
        self._loop = WorkerLoop(backend, costs, metrics)
        self._loop.watch(control.fileno(), self._take_control_messages)

    def run(self) -> None:
        """Serve until the supervisor says stop or is gone."""
        self._loop.run()

    def report_metrics(self) -> None:
        """Send the supervisor what this worker has counted."""
        self._metrics.set_figures(self._backend.figures())
        self._metrics.set_waiting(self._loop.waiting)
        snapshot = take_snapshot(self._metrics.registry)
        self._control.send("metrics", {"snapshot": snapshot})

    def _take_control_messages(self) -> None:
        try:
            while (message := self._control.receive()) is not None:
                self._take(message)
        except LinkClosedError:
            logger.warning("the supervisor is gone; stopping")
            self._loop.stop()

    def _take(self, message: ControlMessage) -> None:
        if message.kind == "attach":
            memory, link = message.descriptors
            layout = SlotLayout.from_body(message.body["layout"])
            self._loop.add_source(message.body["frontend"], SlotArea(layout, memory), Link(socket.socket(fileno=link)))
            os.close(memory)
        elif message.kind == "metrics":
            self.report_metrics()
        elif message.kind == "log_level":
            set_log_level(message.body["level"])
        elif message.kind == "stop":
            self._loop.stop()


def _check_input(backend: Backend, preprocessing: Preprocessing) -> None:
    """Frontends write uint8 pixels or normalised float32 images of the model's crop."""
    taken = (backend.input.dtype, tuple(backend.input.shape))
    known = [(spec.dtype, spec.shape) for spec in image_specs(backend.input.name, preprocessing)]
    if taken not in known:
        expected = " or ".join(f"{dtype} {shape}" for dtype, shape in known)
        raise BackendError(f"the runtime takes {taken[0]} {taken[1]} images, expected {expected}")


def _check_labels(backend: Backend, labels: int | None) -> None:
    if labels not in (None, backend.classes):
        raise BackendError(f"labels.txt names {labels} classes and the model gives {backend.classes}")


def _check_golden(
    backend: Backend, version: Path, preprocessing: Preprocessing, body: dict[str, Any]
) -> dict[str, Any] | None:
    path = find_golden(version)
    if path is None:
        return None
    if backend.simulated:
        logger.warning("%s is not checked: a simulated device makes its scores up", path)
        return None
    return check_golden(path, backend, preprocessing, body["output"], labels=body["labels"]).to_body()


def _load(control: ControlChannel, body: dict[str, Any]) -> WorkerProcess | None:
    """Load and warm up; tell the supervisor how it went."""
    try:
        options = read_options(body)
        backend = create_backend(options)
        preprocessing = preprocessing_of(options, backend.input)
        _check_input(backend, preprocessing)
        _check_labels(backend, body["classes"])
        costs = measure_costs(backend)
        golden = _check_golden(backend, options.path, preprocessing, body)
    except RepServeError as error:
        control.send("failed", {"reason": error.message})
        if isinstance(error, DeviceError):
            _end_at_once()
        return None
    except Exception as error:
        logger.exception("loading failed")
        control.send("failed", {"reason": f"loading failed, the log says where: {error!r}"})
        return None
    metrics = WorkerMetrics(body["model"], body["version"], body["device"], body["instance"])
    control.socket.setblocking(False)
    worker = WorkerProcess(control, backend, costs, metrics)
    control.send(
        "ready",
        {
            "backend": backend.name,
            "precision": backend.precision,
            "simulated": backend.simulated,
            "shape": backend.input.shape,
            "dtype": backend.input.dtype,
            "input_name": backend.input.name,
            "preprocessing": preprocessing.model_dump(),
            "classes": backend.classes,
            "output_name": backend.output_name,
            "max_batch_size": costs.largest,
            "golden": golden,
            "batch_seconds": {str(size): seconds for size, seconds in costs.measured.items()},
            "best_image_seconds": costs.seconds[costs.best_rate] / costs.best_rate,
        },
    )
    try:
        worker.run()
    except DeviceError:
        logger.exception("the device failed; this worker ends, its images go to another or to the next")
        worker.report_metrics()
        _end_at_once()
    for statistic, value in backend.figures().items():
        logger.info("SIMULATED %s: woke up %s %.0f microseconds late", body["device"], statistic, value * 1e6)
    backend.close()
    return worker


def _end_at_once() -> NoReturn:
    """End without unloading the model: on a device that has failed, that may hang. The driver takes all back."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(DEVICE_FAILED)


def main(arguments: list[str]) -> int:
    """``python -m repserve_server.worker.process CONTROL_DESCRIPTOR SUPERVISOR_PID``, started by the supervisor."""
    descriptor, parent = (int(argument) for argument in arguments)
    become_child(parent, "repserve-worker")
    control = ControlChannel(socket.socket(fileno=descriptor), blocking=True)
    try:
        message = control.receive()
        if message is None or message.kind != "load":
            raise ValueError(f"expected the message 'load' first, got {message}")
        configure_logging(message.body["process"], message.body["log_level"], message.body["log_format"])
        return 0 if _load(control, message.body) is not None else 1
    except LinkClosedError:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
