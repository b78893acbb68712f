"""One .om on one NPU, through ``ais_bench``: its input, checked before every run, and how it is run and freed.

The three generations of aclruntime and ais_bench in the field share their version numbers, so methods are looked up
by name. Only calls that all three have are used: a run is ``set_staticbatch`` or ``set_dynamic_batchsize``, then
``InferSession.run``.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from repserve_server.backends.acl_errors import explain_load_error
from repserve_server.backends.base import BackendError, TensorSpec

logger = logging.getLogger(__name__)

RUNS_BETWEEN_RESETS = 1000
"""Runs after which the vendor's timing lists are cleared: they keep an entry for each run and each copy, for ever."""
_SCORES_DIMENSIONS = 2
_KEPT: list[object] = []
"""Sessions that a fork copied: collecting one would call ACL."""
_FORKED = "this process was forked from one that uses the NPU; ACL does not survive a fork, start a new process"


@dataclass(frozen=True)
class Description:
    """An input or output, copied.

    The vendor's own objects change in place, and reading one of a session that is gone ends the process.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    """Bytes; those of the largest gear where the batch size is dynamic."""

    @classmethod
    def copy(cls, tensor: Any) -> Description:  # noqa: ANN401 - aclruntime has no types
        """Copy the present values of a ``tensor_desc``."""
        return cls(str(tensor.name), str(tensor.datatype.name), tuple(int(n) for n in tensor.shape), int(tensor.size))


class AclModel:
    """A loaded .om: static, compiled for one batch size, or dynamic, compiled for several (gears).

    Attributes:
        file: the .om.
        input: name, dtype, shape of one image and layout.
        classes: length of a row of scores.
        output_name: the output's name.
        batch_sizes: what it can run, ascending.
    """

    def __init__(self, file: Path, device: int, gears: Sequence[int] | None, interface: Any) -> None:  # noqa: ANN401
        self.file = file
        self._interface = interface
        self._owner = os.getpid()
        self._runs = 0
        self._size: int | None = None
        try:
            # Resolved: the newest generation refuses links, and repositories are often made of them.
            # It wants the suffix too, which the target of a link into a store of hashes does not have.
            target = file.resolve()
            self._session: Any = interface.InferSession(device, str(target if target.suffix == file.suffix else file))
        except Exception as error:  # whatever the vendor's code raises, the model cannot be used
            raise BackendError(explain_load_error(file, device, error)) from error
        try:
            inputs = [Description.copy(tensor) for tensor in self._session.get_inputs()]
            outputs = [Description.copy(tensor) for tensor in self._session.get_outputs()]
            self.input = _check_input(file, inputs)
            self.classes = _check_output(file, outputs)
            self.output_name = outputs[0].name
            self._dynamic = inputs[0].shape[0] < 0
            self.batch_sizes = self._find_gears(inputs[0], gears) if self._dynamic else (inputs[0].shape[0],)
            if not self._dynamic:
                self._session.set_staticbatch()
        except BaseException:
            self.free()
            raise

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Run a batch of one of ``batch_sizes`` and return its scores, float32 [n, classes], in memory of their own.

        The vendor's code checks nothing but the number of bytes, takes strides for contiguous, leaks a batch of device
        memory when a check of its own fails, and reads beyond its arrays when given too many inputs. So all is checked
        here.

        Raises:
            ValueError: the batch is not what the model takes.
            RuntimeError: the device failed.
        """
        self._check(batch)
        size = len(batch)
        try:
            self._count_run()
            if self._dynamic and self._size != size:
                self._session.set_dynamic_batchsize(size)
                self._size = size
            scores = self._session.run([batch], out_array=True)[0]
        except Exception as error:
            # The size sticks until the next call; a call that fails may have changed it or not.
            self._size = None
            # Bindings turn what C++ throws into many kinds of exception: MemoryError, IndexError, ValueError.
            raise RuntimeError(str(error).strip() or repr(error)) from error
        if not isinstance(scores, np.ndarray) or scores.dtype == object or scores.size < size * self.classes:
            raise RuntimeError(f"{self.file.name} gave no scores that can be read")
        return scores.reshape(-1, self.classes)[:size].astype(np.float32, copy=False)

    def free(self) -> None:
        """Unload the model and give its memory on the device back; only ``free`` may be called afterwards.

        Sessions of the oldest generation have no call for it: collecting one unloads its model. The vendor's
        ``finalize`` is never called: after it this process could load no model again, and the end of the process does
        the same.
        """
        session, self._session = self._session, None
        if self._owner != os.getpid():
            _KEPT.append(session)
            return
        free = getattr(session, "free_resource", None)
        try:
            if free is not None:
                free()
        except Exception as error:  # noqa: BLE001 - whatever it raises, the others are to be freed, and the driver takes the rest
            logger.warning("%s was not freed: %s", self.file.name, str(error).strip() or repr(error))

    def _check(self, batch: NDArray[np.generic]) -> None:
        if self._owner != os.getpid():
            raise BackendError(_FORKED)
        expected = (len(batch), *self.input.shape)
        bytes_expected = math.prod(expected) * np.dtype(self.input.dtype).itemsize
        if (
            batch.dtype != self.input.dtype
            or batch.shape != expected
            or len(batch) not in self.batch_sizes
            or not batch.flags.c_contiguous
            or batch.nbytes != bytes_expected
        ):
            order = "contiguous" if batch.flags.c_contiguous else "not contiguous"
            raise ValueError(
                f"{self.file.name} takes {self.input.dtype} [n, {', '.join(map(str, self.input.shape))}], contiguous, "
                f"n one of {list(self.batch_sizes)}; got {batch.dtype} {list(batch.shape)}, {order}"
            )

    def _find_gears(self, image: Description, gears: Sequence[int] | None) -> tuple[int, ...]:
        """Find the batch sizes of a dynamic model: those recorded for it, or else by trying one after another."""
        largest = image.size // (math.prod(image.shape[1:]) * np.dtype(image.dtype).itemsize)
        # The vendor's code prints a line for each size that is none.
        candidates = sorted(set(gears)) if gears else range(1, largest + 1)
        found = tuple(size for size in candidates if self._is_gear(size))
        if gears and (len(found) < len(set(gears)) or found[-1] != largest):
            raise BackendError(
                f"{self.file} was not compiled for the batch sizes {sorted(set(gears))}: it takes "
                f"{list(found) or 'none'} of them, and its largest is {largest}; correct compiled_sizes in model.toml, "
                "or compiled.json"
            )
        if not found:
            raise BackendError(f"{self.file} has a dynamic batch size, but takes none of 1 to {largest}")
        return found

    def _is_gear(self, size: int) -> bool:
        try:
            self._session.set_dynamic_batchsize(size)
        except RuntimeError:
            return False
        return True

    def _count_run(self) -> None:
        """Count a run before it starts, so that an error of the vendor's code here costs no scores."""
        self._runs += 1
        if self._runs % RUNS_BETWEEN_RESETS:
            return
        reset = getattr(self._session, "reset_summaryinfo", None) or getattr(self._session, "reset_sumaryinfo", None)
        if reset is not None:
            reset()
        memory = getattr(self._interface, "MemorySummary", None)
        if memory is not None:
            memory.reset()


def _check_input(file: Path, inputs: Sequence[Description]) -> TensorSpec:
    described = ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in inputs) or "none"
    problem = (
        f"{file} takes {described}; expected one input, float32 [n, 3, height, width] or uint8 [n, height, width, 3]"
    )
    if len(inputs) != 1:
        raise BackendError(problem)
    (image,) = inputs
    channels = {"float32": 1, "uint8": 3}.get(image.dtype)
    if channels is None or len(image.shape) != 4 or image.shape[channels] != 3 or min(image.shape[1:]) < 1:  # noqa: PLR2004
        raise BackendError(problem)
    return TensorSpec(image.name, image.dtype, image.shape[1:], "NCHW" if image.dtype == "float32" else "NHWC")


def _check_output(file: Path, outputs: Sequence[Description]) -> int:
    described = ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in outputs) or "none"
    if (
        len(outputs) != 1
        or len(outputs[0].shape) != _SCORES_DIMENSIONS
        or outputs[0].dtype not in ("float32", "float16")
    ):
        raise BackendError(f"{file} gives {described}; expected one output, float32 [n, classes]")
    return outputs[0].shape[1]
