"""``aclruntime.InferenceSession``, with the names and the behaviour that each generation gives its methods."""

from __future__ import annotations

import operator
import os
import stat
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from standin import settings
from standin.descriptor import TensorDescriptor
from standin.device import acl
from standin.engine import GENERAL_FAILURE, INVALID_PARAMETER, Engine, Feed
from standin.executions import Summary
from standin.failures import acl_error, crash
from standin.options import SessionOptions
from standin.tensor import DEVICE_IDS, BaseTensor, Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

MAX_LOOP = 100_000
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class Session:
    """What all generations have. Exactly three positional arguments: path, device, options.

    It may be called from any thread, and makes its context current there. Nothing gives up Python's lock.
    """

    def __init__(self, model_path: str, device_id: int, options: SessionOptions, /) -> None:
        if not isinstance(model_path, str | bytes):
            raise TypeError(f"__init__(): incompatible constructor arguments: model_path {model_path!r}")
        device = operator.index(device_id)
        if options is None:
            crash("a session was made without options")
        if not isinstance(options, SessionOptions):
            raise TypeError(f"__init__(): incompatible constructor arguments: options {options!r}")
        self._engine = Engine(self._checked(os.fsdecode(model_path), device, options), device, options)
        weakref.finalize(self, self._engine.abandon).atexit = False

    def _checked(self, path: str, _device: int, _options: SessionOptions) -> str:
        """The path, once a generation has checked what it checks before it touches the device."""
        return path

    def get_inputs(self) -> list[TensorDescriptor]:
        """The inputs, without the hidden one that holds the gear; references that die with this object."""
        return [TensorDescriptor(self, entry) for entry in self._engine.inputs]

    def get_outputs(self) -> list[TensorDescriptor]:
        """The outputs, with the shape of the largest gear."""
        return [TensorDescriptor(self, entry) for entry in self._engine.outputs]

    def options(self) -> SessionOptions:
        """The options it was made with, not a copy."""
        return self._engine.options

    def sumary(self) -> Summary:
        """The times of its executions, so spelt."""
        return Summary(self, self._engine.timings)

    def run(self, names: Sequence[str], feeds: Sequence[object] | Mapping[str, object], /) -> list[Tensor]:
        """Run on tensors in order, on tensors by name, or on ``BaseTensor`` host memory.

        Raises:
            RuntimeError: with the code in brackets.
            TypeError: for other types.
        """
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"run(): incompatible function arguments: output names {names!r}")
        given = self._in_order(feeds) if isinstance(feeds, dict) else list(feeds)
        tensors = [feed for feed in given if isinstance(feed, Tensor)]
        memory = [feed for feed in given if isinstance(feed, BaseTensor)]
        if len(tensors) == len(given):
            return self._run_tensors(names, tensors)
        if len(memory) < len(given) or isinstance(feeds, dict):
            raise TypeError(f"run(): incompatible function arguments: feeds {[type(feed).__name__ for feed in given]}")
        return self._run_memory(names, memory)

    def _in_order(self, feeds: Mapping[str, object]) -> list[object]:
        wanted = [entry.name for entry in self._engine.inputs]
        if sorted(feeds) != sorted(wanted):
            raise acl_error(GENERAL_FAILURE)
        return [feeds[name] for name in wanted]

    def _run_tensors(self, names: Sequence[str], tensors: Sequence[Tensor]) -> list[Tensor]:
        self._engine.enter()
        described = [(tensor.dtype, tuple(tensor.shape), tensor.contiguous) for tensor in tensors]
        feeds = [Feed(t.content, t.on_host, about) for t, about in zip(tensors, described, strict=True)]
        return self._engine.run(names, feeds)

    def _run_memory(self, names: Sequence[str], memory: Sequence[BaseTensor]) -> list[Tensor]:
        """Copy the feeds to the device and run; the copies are freed after a run, but not after one that failed."""
        self._engine.enter()
        copies = [feed.copy() for feed in memory]
        try:
            return self._engine.run(names, [Feed(copy) for copy in copies])
        except RuntimeError:
            for copy in copies:
                acl().leak(len(copy))
            raise

    def set_staticbatch(self) -> int:
        """Treat the model as static; of one with gears this forgets the gear, and not the size of its input."""
        self._engine.set_static()
        return 0

    def set_dynamic_batchsize(self, batch: int, /) -> int:
        """Choose a gear for the next runs; raises RuntimeError ``[1]`` for a size that is none."""
        self._engine.set_gear(operator.index(batch))
        return 0

    def get_max_dym_batchsize(self) -> int:
        """The largest gear, 0 for a static model. The others cannot be asked for."""
        self._engine.enter()
        return self._engine.header.batch_sizes[-1] if self._engine.header.gears else 0

    def set_dynamic_hw(self, _width: int, _height: int, /) -> NoReturn:
        """Of no use here: no model of the stand-in is dynamic in its image's size."""
        self._engine.enter()
        raise acl_error(INVALID_PARAMETER)

    def set_dynamic_dims(self, _dims: str, /) -> NoReturn:
        """As ``set_dynamic_hw``."""
        self._engine.enter()
        raise acl_error(INVALID_PARAMETER)

    set_dynamic_shape = set_dynamic_dims

    def __repr__(self) -> str:
        return self._engine.describe()


class SessionT(Session):
    """Ascend/tools, June 2023: one context for all sessions of a device, and no way to give back a single one."""

    def reset_sumaryinfo(self) -> int:
        """Forget the times."""
        return self._engine.timings.reset()

    def finalize(self) -> int:
        """Unload this model and end ACL for the whole process."""
        return self._engine.finalise()


class _OwnContext(Session):
    """What A and N share: a context for each session, which can be given back."""

    def set_context(self) -> None:
        """Make its context current on this thread."""
        self._engine.enter()

    def free_resource(self) -> int:
        """Unload the model and destroy the context; 1 if that was done before."""
        return self._engine.free()

    @staticmethod
    def finalize() -> int:
        """End ACL for the whole process, whatever sessions there are."""
        return acl().finalise(len(Engine.live))


class SessionA(_OwnContext):
    """Ait, 2024."""

    def reset_sumaryinfo(self) -> int:
        """Forget the times."""
        return self._engine.timings.reset()


class SessionN(_OwnContext):
    """The community's 0.0.3, 2026: finds the gear itself, and keeps its device buffers."""

    def __init__(self, model_path: str, device_id: int, options: SessionOptions, /) -> None:
        self._pool: dict[int, NDArray[np.uint8]] = {}
        super().__init__(model_path, device_id, options)

    def _checked(self, path: str, device: int, options: SessionOptions) -> str:
        if not 0 < options.loop <= MAX_LOOP:
            raise RuntimeError("loop num out of range. Please check.")
        file = Path(path)
        if file.suffix != ".om" or file.is_symlink() or not file.is_file() or file.stat().st_mode & WRITABLE_BY_OTHERS:
            raise RuntimeError("please check model path")
        if not 0 <= device < DEVICE_IDS:
            raise RuntimeError("device id is out of range")
        return path

    def _run_tensors(self, names: Sequence[str], tensors: Sequence[Tensor]) -> list[Tensor]:
        if self._engine.header.gears and not self._engine.has_gear and len(tensors) == len(self._engine.inputs):
            self._engine.set_gear(tensors[0].shape[0])
        return super()._run_tensors(names, tensors)

    def _run_memory(self, names: Sequence[str], memory: Sequence[BaseTensor]) -> list[Tensor]:
        """As the others, into buffers that stay.

        A buffer is passed on with the size it has, not that of the feed. So a smaller gear after a larger one fails, as
        the size does not match.
        """
        self._engine.enter()
        for index, feed in enumerate(memory):
            copy = feed.copy()
            if index not in self._pool or len(self._pool[index]) < len(copy):
                self._pool[index] = copy
            self._pool[index][: len(copy)] = copy
        return self._engine.run(names, [Feed(self._pool[index]) for index in range(len(memory))])

    def run_from_tensors(self, names: Sequence[str], tensors: Sequence[Tensor], /) -> list[Tensor]:
        """Run on tensors of the device, without looking for the gear."""
        return super()._run_tensors(names, tensors)

    summary = Session.sumary

    def reset_summaryinfo(self) -> int:
        """Forget the times; there is no ``reset_sumaryinfo``."""
        return self._engine.timings.reset()


SESSIONS: dict[str, type[Session]] = {"T": SessionT, "A": SessionA, "N": SessionN}


def session_class() -> type[Session]:
    """The class of this process's generation."""
    return SESSIONS[settings.current().generation]
