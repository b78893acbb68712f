"""The worker's process: loads its model, warms it up, reports what it measured, then runs the loop."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import NoReturn

from repserve_server.backends.base import Backend, BackendError, DeviceError, image_specs, preprocessing_of
from repserve_server.backends.factory import create_backend
from repserve_server.channel.control import ControlChannel
from repserve_server.channel.link import Link, LinkClosedError
from repserve_server.channel.message import CollectMetrics, MetricsReport, SetLogLevel, Stop
from repserve_server.channel.model_info import InputInfo
from repserve_server.channel.slots import SlotArea
from repserve_server.channel.worker_messages import (
    TO_WORKER,
    AttachFrontend,
    GoldenResult,
    LoadFailed,
    LoadWorker,
    ModelInterface,
    ToWorker,
    WorkerReady,
)
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

    def __init__(
        self, control: ControlChannel[ToWorker], backend: Backend, costs: BatchCosts, metrics: WorkerMetrics
    ) -> None:
        self._control, self._backend, self._metrics = control, backend, metrics
        self._loop = WorkerLoop(backend, costs, metrics)

    def run(self) -> None:
        """Serve until the supervisor stops it or is gone."""
        self._loop.watch(self._control.fileno(), self._read)
        self._loop.run()

    def report_metrics(self) -> None:
        """Send the supervisor what this worker has counted."""
        self._metrics.set_figures(self._backend.figures())
        self._metrics.set_waiting(self._loop.waiting)
        snapshot = take_snapshot(self._metrics.registry)
        self._control.send(MetricsReport(snapshot=snapshot))

    def _read(self) -> None:
        try:
            while (received := self._control.receive()) is not None:
                self._take(*received)
        except LinkClosedError:
            logger.warning("the supervisor is gone; stopping")
            self._loop.stop()

    def _take(self, message: ToWorker, descriptors: list[int]) -> None:
        match message:
            case AttachFrontend():
                memory, link = descriptors
                area = SlotArea(message.layout, memory)
                self._loop.add_source(message.frontend, area, Link(socket.socket(fileno=link)))
                os.close(memory)
            case CollectMetrics():
                self.report_metrics()
            case SetLogLevel():
                set_log_level(message.level)
            case Stop():
                self._loop.stop()
            case LoadWorker():
                raise ValueError("a worker loads one model, once")


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


def _check_golden(backend: Backend, preprocessing: Preprocessing, message: LoadWorker) -> GoldenResult | None:
    path = find_golden(message.folder)
    if path is None:
        return None
    if backend.simulated:
        logger.warning("%s is not checked: a simulated device makes its scores up", path)
        return None
    return check_golden(path, backend, preprocessing, message.output, labels=message.labels)


def _load(control: ControlChannel[ToWorker], message: LoadWorker) -> WorkerProcess | None:
    """Load and warm up; report to the supervisor how it went."""
    try:
        options = read_options(message)
        backend = create_backend(options)
        preprocessing = preprocessing_of(options, backend.input)
        _check_input(backend, preprocessing)
        _check_labels(backend, message.classes)
        costs = measure_costs(backend)
        golden = _check_golden(backend, preprocessing, message)
    except RepServeError as error:
        control.send(LoadFailed(reason=error.message))
        if isinstance(error, DeviceError):
            _end_at_once()
        return None
    except Exception as error:
        logger.exception("loading failed")
        control.send(LoadFailed(reason=f"loading failed, the log says where: {error!r}"))
        return None
    metrics = WorkerMetrics(message.model, message.version, message.device, message.instance)
    control.socket.setblocking(False)
    worker = WorkerProcess(control, backend, costs, metrics)
    control.send(
        WorkerReady(
            interface=ModelInterface(
                input=InputInfo(backend.input.name, backend.input.dtype, tuple(backend.input.shape)),
                output_name=backend.output_name,
                classes=backend.classes,
                preprocessing=preprocessing,
            ),
            backend=backend.name,
            precision=backend.precision,
            simulated=backend.simulated,
            batch_seconds=costs.measured,
            best_image_seconds=costs.seconds[costs.best_rate] / costs.best_rate,
            golden=golden,
        )
    )
    try:
        worker.run()
    except DeviceError:
        logger.exception("the device failed; this worker ends, its images go to another or to the next")
        worker.report_metrics()
        _end_at_once()
    for statistic, value in backend.figures().items():
        logger.info("SIMULATED %s: woke up %s %.0f microseconds late", message.device, statistic, value * 1e6)
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
    control = ControlChannel(socket.socket(fileno=descriptor), TO_WORKER, blocking=True)
    try:
        received = control.receive()
        if received is None or not isinstance(message := received.message, LoadWorker):
            raise ValueError(f"expected LoadWorker first, got {received}")
        configure_logging(message.identity.process, message.identity.log_level, message.identity.log_format)
        return 0 if _load(control, message) is not None else 1
    except LinkClosedError:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
