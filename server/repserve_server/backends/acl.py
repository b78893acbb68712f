"""Ascend NPUs: the .om models of a version folder on one device, through ``ais_bench`` and ``aclruntime``.

Everything ACL happens in the one thread of the process that made the backend: aclruntime holds Python's lock for the
whole of a run, and ACL does not survive a fork. A folder may hold several .om files of different batch sizes, which are
loaded side by side, or one with gears; each batch runs on the file that was compiled for its size.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from repserve_server.ascend.npu_smi import NpuSmiError, read_chips, soc_version
from repserve_server.backends.acl_errors import LOG_HINT, explain_import_error
from repserve_server.backends.acl_model import AclModel
from repserve_server.backends.base import Backend, BackendError, BackendOptions, DeviceError, TensorSpec
from repserve_server.repository.compiled import CompiledFolder, read_compiled
from repserve_server.repository.model_files import find_om

logger = logging.getLogger(__name__)

DEVICE_PREFIX = "npu:"
UNKNOWN_PRECISION = "as compiled"
MAX_FAILURES = 3
"""Failed runs after which this process gives the device up, even if each run succeeded on its second attempt."""


class AclBackend(Backend):
    """The .om models of one folder on one NPU."""

    name = "acl"
    simulated = False
    any_size = False

    def __init__(self, options: BackendOptions) -> None:
        number = options.device.removeprefix(DEVICE_PREFIX)
        if not (number.isascii() and number.isdigit()):
            raise BackendError(f"device {options.device!r} is not known; NPUs are npu:0, npu:1 ...")
        if options.precision != "auto":
            raise BackendError(
                f"precision = {options.precision}, but an .om has the arithmetic that it was compiled with: leave "
                "precision at auto, or compile it with another --precision-mode"
            )
        self._failures = 0
        self._models: list[AclModel] = []
        self._by_size: dict[int, AclModel] = {}
        files = find_om(options.path)
        compiled = read_compiled(files[0].parent)
        if compiled is not None:
            _check_compiled(files[0].parent, compiled, options)
        self.precision = compiled.precision if compiled else UNKNOWN_PRECISION
        try:
            self._load(files, int(number), options, compiled, _import_interface())
            self._by_size = _choose(self._models, options.max_batch_size)
            self._unload_unused()
        except BaseException:
            self.close()
            raise
        self.input: TensorSpec = self._models[0].input
        self.classes = self._models[0].classes
        self.output_name = self._models[0].output_name
        self.batch_sizes = tuple(sorted(self._by_size))

    @override
    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run a batch; see ``Backend.run``.

        A failed run is tried once more. If it fails again, this process stops using the device: failures leak device
        memory, and the device may stay in a faulty state until its process has ended. Because of the leaks, it also
        stops after ``MAX_FAILURES`` failures, even if each run succeeded on its second attempt.
        """
        if self._failures >= MAX_FAILURES:
            raise DeviceError(
                f"{self._failures} runs have failed on the device, each of which leaks a batch of its memory"
            )
        model = self._by_size.get(len(batch))
        if model is None:
            raise ValueError(f"cannot run a batch of {len(batch)}; compiled sizes are {list(self.batch_sizes)}")
        try:
            return model.run(batch)
        except RuntimeError as error:
            self._failures += 1
            logger.warning("a run of %s failed (%s); trying once more", model.file.name, str(error).strip())
        try:
            return model.run(batch)
        except RuntimeError as error:
            raise DeviceError(
                f"{model.file.name} failed twice in a row on the device ({str(error).strip()}): look at "
                f"`npu-smi info`; {LOG_HINT}"
            ) from error

    @override
    def close(self) -> None:
        """Unload the models, the last one first."""
        self._by_size = {}
        while self._models:
            self._models.pop().free()

    def _load(
        self,
        files: list[Path],
        device: int,
        options: BackendOptions,
        compiled: CompiledFolder | None,
        interface: Any,  # noqa: ANN401 - ais_bench has no types
    ) -> None:
        written = {model.file: model.batch_sizes for model in compiled.models} if compiled else {}
        for file in files:
            gears = written.get(file.name) or options.compiled_sizes
            model = AclModel(file, device, gears, interface)
            self._models.append(model)
            first = self._models[0]
            same = (model.input.dtype, model.input.shape, model.classes) == (
                first.input.dtype,
                first.input.shape,
                first.classes,
            )
            if not same:
                raise BackendError(
                    f"{file.name} takes {model.input.dtype} {model.input.shape} and gives {model.classes} classes, "
                    f"{first.file.name} takes {first.input.dtype} {first.input.shape} and gives {first.classes}: the "
                    "models of a version must differ in nothing but their batch sizes"
                )

    def _unload_unused(self) -> None:
        """Unload the models that no batch size up to ``max_batch_size`` uses.

        The first model stays: the newest generation copies the inputs of all in its context.
        """
        for model in self._models[:0:-1]:
            if model not in self._by_size.values():
                model.free()
                self._models.remove(model)


def _choose(models: list[AclModel], max_batch_size: int) -> dict[int, AclModel]:
    """For each batch size the model that runs it: one compiled for this size alone rather than one with gears."""
    chosen: dict[int, AclModel] = {}
    for model in sorted(models, key=lambda candidate: len(candidate.batch_sizes)):
        for size in model.batch_sizes:
            other = chosen.setdefault(size, model)
            if other is not model and len(other.batch_sizes) == len(model.batch_sizes) == 1:
                raise BackendError(f"{other.file.name} and {model.file.name} are both compiled for batch size {size}")
    fitting = {size: model for size, model in chosen.items() if size <= max_batch_size}
    if not fitting:
        raise BackendError(
            f"{models[0].file.parent} is compiled for batch sizes {sorted(chosen)}, and max_batch_size is "
            f"{max_batch_size}: raise max_batch_size or compile a smaller size"
        )
    return fitting


def _check_compiled(folder: Path, compiled: CompiledFolder, options: BackendOptions) -> None:
    """Compare compiled.json with the chips of this machine and with model.toml."""
    inside, wanted = compiled.preprocessing, options.preprocessing
    if inside is not None and (inside.mean, inside.std) != (wanted.mean, wanted.std):
        raise BackendError(
            f"{folder} was compiled to normalise with mean {list(inside.mean)} and std {list(inside.std)}; model.toml "
            f"has {list(wanted.mean)} and {list(wanted.std)}: correct it, or compile again"
        )
    try:
        chips = {soc_version(chip.name) for chip in read_chips()}
    except NpuSmiError:
        return  # in a container without npu-smi: a wrong chip shows when the model is loaded
    if compiled.soc_version not in chips:
        raise BackendError(
            f"{folder} was compiled for {compiled.soc_version}, and this machine has {', '.join(sorted(chips))}: run "
            f"repserve convert onnx2om with --soc-version {min(chips)}"
        )


def _import_interface() -> Any:  # noqa: ANN401 - ais_bench has no types
    try:
        importlib.import_module("aclruntime")
        return importlib.import_module("ais_bench.infer.interface")
    except ImportError as error:
        raise BackendError(explain_import_error(error)) from error
