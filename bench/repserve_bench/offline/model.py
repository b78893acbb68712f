"""The model of an offline run: on which device, with which preprocessing, and loaded there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from repserve_bench.offline.command import keep_standard_output
from repserve_bench.offline.errors import OfflineError
from repserve_bench.offline.watchdog import LOAD_SECONDS, RUN_SECONDS, Watchdog
from repserve_server.backends.base import BackendOptions, DeviceError, Precision
from repserve_server.backends.factory import create_backend
from repserve_server.errors import RepServeError
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.process import available_cpus
from repserve_server.repository.config import CONFIG_NAME, read_config
from repserve_server.repository.weights_note import read_caution

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from repserve_server.backends.base import Backend

NPU_PREFIX = "npu:"
SUFFIX_OF_DEVICE = {"npu": ".om", "cpu": ".onnx"}
LARGEST_GEAR = 2048
"""The largest batch size that an .om can be compiled for, by the documentation of atc."""


@dataclass(frozen=True)
class ModelSettings:
    """The model of a run, and how to run it."""

    file: Path
    batch_size: int = 1
    device: str | None = None
    """``cpu``, ``npu:0``, ``sim:310p``; None is the NPU for an .om and the CPU for an ONNX model."""
    device_id: int | None = None
    """Number of the NPU, and of the device in the names of files."""
    precision: Precision | None = None
    """None is float32 on a CPU, for figures that another machine repeats, and as compiled elsewhere."""
    runtime: str = "auto"


@dataclass(frozen=True)
class OfflineModel:
    """A loaded model, used by the thread that loaded it.

    Attributes:
        backend: What runs it.
        device: The device's name.
        device_id: The device's number in the names of files.
        batch_size: Images of each run.
        preprocessing: How the model needs its images preprocessed.
        preprocessing_source: Where that was found.
        caution: Why its answers mean nothing, such as random weights; empty for a real model.
        watch: Returns the context manager for each run: a watchdog on a device that may hang.
    """

    backend: Backend
    device: str
    device_id: int
    batch_size: int
    preprocessing: Preprocessing
    preprocessing_source: str
    caution: str
    watch: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    @property
    def simulated(self) -> str:
        """The device's name when it is simulated, else empty."""
        return self.device if self.backend.simulated else ""

    def describe(self) -> str:
        """Return one line for people: where and how the model runs."""
        if self.simulated:
            return f"SIMULATED {self.device}: no device was used; times are published ones, scores are made up"
        return f"{self.device} ({self.backend.name}, {self.backend.precision}), batch size {self.batch_size}"


def choose_device(settings: ModelSettings) -> tuple[str, int]:
    """Return the device's name and its number in the names of files.

    Raises:
        OfflineError: The options contradict each other, or the device does not run such a file.
    """
    suffix, device, number = settings.file.suffix, settings.device, settings.device_id
    if suffix not in SUFFIX_OF_DEVICE.values():
        raise OfflineError(f"{settings.file}: expected a model whose name ends in .om or .onnx")
    if device is None:
        device = f"{NPU_PREFIX}{number or 0}" if suffix == SUFFIX_OF_DEVICE["npu"] else "cpu"
    kind, _, written = device.partition(":")
    if suffix != SUFFIX_OF_DEVICE.get(kind, suffix):
        raise OfflineError(f"{settings.file}: the device {device} runs {SUFFIX_OF_DEVICE[kind]} models")
    if kind != "npu":
        return device, number or 0
    if not (written.isascii() and written.isdigit()):
        raise OfflineError(f"unknown device {device!r}; NPUs are npu:0, npu:1 ...")
    if number not in (None, int(written)):
        raise OfflineError(f"the device {device} and the device id {number} contradict each other; give one of them")
    return device, int(written)


def find_preprocessing(model: Path) -> tuple[Preprocessing, str]:
    """Return how a model needs its images preprocessed, and where that was found.

    A model in a repository, <model>/<version>/<file>, has a model.toml beside its version's folder. The guide's values
    are used for any other model, and for keys that the model.toml does not have.

    Raises:
        RepositoryError: The model.toml cannot be read.
    """
    version = model.absolute().parent
    config = version.parent / CONFIG_NAME
    if version.name.isdecimal() and config.is_file():
        return read_config(version.parent).preprocessing, f"{config}"
    return Preprocessing(), "the guide"


def load_model(settings: ModelSettings) -> OfflineModel:
    """Load a model in this thread, for its own kind of input.

    Raises:
        OfflineError: The options do not fit the model.
        BackendError: The model cannot be loaded.
        RepositoryError: Its model.toml cannot be read.
    """
    device, number = choose_device(settings)
    preprocessing, source = find_preprocessing(settings.file)
    npu = device.startswith(NPU_PREFIX)
    options = BackendOptions(
        device=device,
        path=settings.file,
        runtime=settings.runtime,
        precision=settings.precision or ("f32" if device == "cpu" else "auto"),
        threads=available_cpus(),
        # An .om knows the sizes it was compiled for; _check_batch_size compares.
        max_batch_size=LARGEST_GEAR if npu else settings.batch_size,
        compiled_sizes=None if npu else (settings.batch_size,),
        preprocessing=preprocessing,
        input="tensor",
    )
    try:
        backend = create_backend(options)
    except RepServeError:
        raise
    except Exception as error:
        raise OfflineError(f"{settings.file} cannot be loaded on {device}: {error}") from error
    try:
        _check_batch_size(backend, settings)
    except OfflineError:
        backend.close()
        raise
    return OfflineModel(
        backend, device, number, settings.batch_size, preprocessing, source, read_caution(settings.file.parent)
    )


@contextlib.contextmanager
def loaded_model(settings: ModelSettings) -> Iterator[OfflineModel]:
    """Load a model as ``load_model`` does, and close it at the end of the block.

    An NPU is watched, and the output of the vendor's libraries goes to standard error.
    """
    with contextlib.ExitStack() as stack:
        device, _ = choose_device(settings)
        if device.startswith(NPU_PREFIX):
            keep_standard_output()
            loading, running = (
                stack.enter_context(Watchdog(seconds, f"{what} on {device}"))
                for seconds, what in (
                    (LOAD_SECONDS, f"loading {settings.file.name}"),
                    (RUN_SECONDS, f"a run of {settings.file.name}"),
                )
            )
            with loading.watch():
                model = replace(load_model(settings), watch=running.watch)
        else:
            model = load_model(settings)
        try:
            yield model
        except DeviceError:
            raise  # closing a model on a device that has failed may hang; the end of the process frees it
        except BaseException:
            model.backend.close()
            raise
        model.backend.close()


def _check_batch_size(backend: Backend, settings: ModelSettings) -> None:
    if not backend.any_size and settings.batch_size not in backend.batch_sizes:
        sizes = " or ".join(map(str, backend.batch_sizes))
        raise OfflineError(
            f"{settings.file} was compiled for a batch size of {sizes}, not {settings.batch_size}; use a size it has"
        )
