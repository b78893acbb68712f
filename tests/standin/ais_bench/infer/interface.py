"""The stand-in's ``ais_bench.infer.interface``: the Python on top of aclruntime, as each generation has it.

Left out is what a server has no use for: pipelines, iterations, several devices in one session, torch tensors, dynamic
image sizes and dynamic AIPP.
"""

from __future__ import annotations

import atexit
import contextlib
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from standin import settings
from standin.arguments import as_array, check_session
from standin.driver import open_driver
from standin.options import SessionOptions
from standin.session import Session, SessionA, SessionN, SessionT, session_class
from standin.tensor import BaseTensor, DataType, Tensor
from standin.tensor import MemorySummary as Copies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from standin.descriptor import TensorDescriptor
    from standin.executions import Summary

open_driver()

MODES = ("static", "dymbatch", "dymhw", "dymdims", "dymshape")
FREE_SIZE = 100_000
"""The default of ``custom_sizes``, which only models of dynamic shape use."""


class _Common:
    """What the three have in common."""

    def __init__(
        self, device_id: int, model_path: str, acl_json_path: str | None = None, debug: bool = False, loop: int = 1
    ) -> None:
        self.device_id, self.model_path, self.loop = device_id, model_path, loop
        options = SessionOptions()
        if acl_json_path is not None:
            options.acl_json_path = acl_json_path
        options.log_level = 1 if debug else 2
        options.loop = loop
        self.session: Session = session_class()(model_path, device_id, options)
        self.outputs_names = [entry.name for entry in self.session.get_outputs()]

    @staticmethod
    def convert_tensors_to_host(tensors: Sequence[Tensor]) -> None:
        """Copy outputs to the host, in place."""
        for tensor in tensors:
            tensor.to_host()

    @staticmethod
    def convert_tensors_to_arrays(tensors: Sequence[Tensor]) -> list[NDArray[Any]]:
        """Copies of tensors on the host as arrays that numpy owns."""
        return [np.array(tensor) for tensor in tensors]

    def get_inputs(self) -> list[TensorDescriptor]:
        """The model's inputs."""
        return self.session.get_inputs()

    def get_outputs(self) -> list[TensorDescriptor]:
        """The model's outputs."""
        return self.session.get_outputs()

    def set_loop_count(self, loop: int) -> None:
        """How often a run executes the model."""
        self.session.options().loop = loop

    def run(self, feeds: Sequence[Any], out_array: bool = False) -> list[Any]:
        """Run on arrays as they lie in memory, or on tensors; the first feed decides which."""
        inputs: Sequence[Any] = feeds
        if len(feeds) > 0 and isinstance(feeds[0], np.ndarray):
            for index, array in enumerate(feeds):
                self._watch(index, array)
            inputs = [BaseTensor(array.__array_interface__["data"][0], array.nbytes) for array in feeds]
        return self._run(inputs, out_array)

    def _run(self, inputs: Sequence[Any], out_array: bool) -> list[Any]:
        outputs = self.session.run(self.outputs_names, inputs)
        if not out_array:
            return outputs
        self.convert_tensors_to_host(outputs)
        return self.convert_tensors_to_arrays(outputs)

    def _watch(self, index: int, array: NDArray[Any]) -> None:
        described = (DataType.of(array.dtype), array.shape, bool(array.flags.c_contiguous))
        self.session._engine.watch(index, described)

    def _gear_of(self, shapes: Sequence[Sequence[int]]) -> int:
        """The batch of feeds of these shapes, for a model with gears; raises RuntimeError where they do not fit."""
        entries = self.get_inputs()
        if len(shapes) != len(entries):
            raise RuntimeError("input datas and intensors nums not matched!")
        for entry, shape in zip(entries, shapes, strict=True):
            for wanted, length in zip(entry.shape, shape, strict=False):
                if wanted < 0:
                    return length
                if wanted != length:
                    raise RuntimeError("input datas and intensors dim not matched!")
        raise RuntimeError("not a dymbatch model!")

    def _prepare(self, mode: str, shapes: Sequence[Sequence[int]]) -> None:
        if mode not in MODES:
            raise RuntimeError(
                f'wrong infer_mode:{mode}, only support "static","dymbatch","dymhw","dymdims","dymshape"'
            )
        if mode == "static":
            self.session.set_staticbatch()
        elif mode == "dymbatch":
            self.session.set_dynamic_batchsize(self._gear_of(shapes))
        elif mode == "dymhw":
            raise RuntimeError("not a dymhw model!")
        else:
            self.session.set_dynamic_dims("")


class _ListsDescriptors(_Common):
    """T and A keep descriptors in attributes and forward methods by name."""

    def __init__(
        self, device_id: int, model_path: str, acl_json_path: str | None = None, debug: bool = False, loop: int = 1
    ) -> None:
        super().__init__(device_id, model_path, acl_json_path, debug, loop)
        self.intensors_desc = self.session.get_inputs()
        self.outtensors_desc = self.session.get_outputs()

    def set_staticbatch(self) -> None:
        """As the session's."""
        self.session.set_staticbatch()

    def set_dynamic_batchsize(self, dym_batch: int) -> None:
        """As the session's."""
        self.session.set_dynamic_batchsize(dym_batch)

    def get_max_dym_batchsize(self) -> int:
        """As the session's."""
        return self.session.get_max_dym_batchsize()

    def create_tensor_from_arrays_to_device(self, arrays: NDArray[Any]) -> Tensor:
        """A tensor on the session's device."""
        tensor = Tensor(arrays)
        tensor.to_device(self.device_id)
        return tensor


class InferSessionT(_ListsDescriptors):
    """Ascend/tools, June 2023. ``infer`` ignores modes that it does not know, such as ``dymbatch``, and all strides."""

    def infer(
        self,
        feeds: Sequence[Any],
        mode: str = "static",
        custom_sizes: object = FREE_SIZE,  # noqa: ARG002 - for dynamic shapes
    ) -> list[NDArray[Any]]:
        """Run and return arrays."""
        inputs = [feed if isinstance(feed, Tensor) else as_array(feed) for feed in feeds]
        if mode in ("dymshape", "dymdims"):
            self.session.set_dynamic_dims("")
        return self.run(inputs, out_array=True)

    def sumary(self) -> Summary:
        """The times of the executions."""
        return self.session.sumary()

    def reset_sumaryinfo(self) -> None:
        """Forget the times."""
        cast("SessionT", self.session).reset_sumaryinfo()

    def finalize(self) -> None:
        """End ACL in this process."""
        cast("SessionT", self.session).finalize()


class InferSessionA(_ListsDescriptors):
    """Ait, 2024."""

    def infer(
        self,
        feeds: Sequence[Any],
        mode: str = "static",
        custom_sizes: object = FREE_SIZE,  # noqa: ARG002 - for dynamic shapes
        out_array: bool = True,
    ) -> list[Any]:
        """Run and return arrays, or tensors on the device; arrays that are not contiguous are copied first."""
        inputs = [feed if isinstance(feed, Tensor) else np.ascontiguousarray(as_array(feed)) for feed in feeds]
        self._prepare(mode, [feed.shape for feed in inputs])
        return self.run(inputs, out_array)

    def summary(self) -> Summary:
        """The times of the executions."""
        return self.session.sumary()

    def reset_summaryinfo(self) -> None:
        """Forget the times."""
        cast("SessionA", self.session).reset_sumaryinfo()

    def free_resource(self) -> None:
        """Unload the model and destroy its context."""
        cast("SessionA", self.session).free_resource()

    @staticmethod
    def finalize() -> None:
        """End ACL in this process."""
        SessionA.finalize()


class InferSessionN(_Common):
    """The community's 0.0.3, 2026. Arrays become tensors on the device; the end of the process frees all sessions."""

    _live: ClassVar[weakref.WeakSet[InferSessionN]] = weakref.WeakSet()
    _ends_with_the_process = False

    def __init__(
        self, device_id: int, model_path: str, acl_json_path: str | None = None, debug: bool = False, loop: int = 1
    ) -> None:
        check_session(device_id, model_path, loop)
        super().__init__(device_id, model_path, acl_json_path, debug, loop)
        if not InferSessionN._ends_with_the_process:
            InferSessionN._ends_with_the_process = True
            atexit.register(InferSessionN._end)
        InferSessionN._live.add(self)

    @classmethod
    def _end(cls) -> None:
        for session in list(cls._live):
            session.__del__()
        SessionN.finalize()

    def __enter__(self) -> InferSessionN:
        return self

    def __exit__(self, *_: object) -> None:
        self.__del__()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            if self.session is not None:
                cast("SessionN", self.session).free_resource()
                self.session = cast("Session", None)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a method of the session
        if name == "session":  # of an object whose making failed
            raise AttributeError(name)
        return getattr(self.session, name)

    def create_tensor_from_arrays_to_device(self, arrays: NDArray[Any]) -> Tensor:
        """A tensor on the session's device."""
        return Tensor(arrays, self.device_id)

    def run(self, feeds: Sequence[Any], out_array: bool = False) -> list[Any]:
        """Run on arrays, by way of tensors on the device, or on tensors."""
        is_array = len(feeds) > 0 and isinstance(feeds[0], np.ndarray)
        return self._run([Tensor(array, self.device_id) for array in feeds] if is_array else feeds, out_array)

    def infer(
        self,
        feeds: list[Any],
        mode: str = "static",
        custom_sizes: object = FREE_SIZE,  # noqa: ARG002 - for dynamic shapes
        out_array: bool = True,
    ) -> list[Any]:
        """Run and return arrays, or tensors on the device; takes a list of arrays and nothing else."""
        if not isinstance(feeds, list):
            raise ValueError("the list be checked is not a list!")  # noqa: TRY004 - so the real one
        if not feeds:
            raise ValueError("the list is empty")
        if not isinstance(out_array, bool):
            raise TypeError(f"value:{out_array} is not a bool!")
        if mode not in MODES:
            raise ValueError("infer mode is illegal, Please check.")
        tensors = [Tensor(np.ascontiguousarray(as_array(feed)), self.device_id) for feed in feeds]
        self._prepare(mode, [tensor.shape for tensor in tensors])
        return self._run(tensors, out_array)

    def run_from_tensors(self, feeds: Sequence[Tensor], out_array: bool = True) -> list[Any]:
        """Run on tensors of the device."""
        outputs = cast("SessionN", self.session).run_from_tensors(self.outputs_names, feeds)
        if not out_array:
            return outputs
        self.convert_tensors_to_host(outputs)
        return self.convert_tensors_to_arrays(outputs)

    def summary(self) -> Summary:
        """The times of the executions."""
        return self.session.sumary()

    def reset_summaryinfo(self) -> None:
        """Forget the times."""
        cast("SessionN", self.session).reset_summaryinfo()


class MemorySummary:
    """The times of copies, of the whole process."""

    @staticmethod
    def get_h2d_time_list() -> list[float]:
        """Copies to the device."""
        return list(Copies.H2D_time_list)

    @staticmethod
    def get_d2h_time_list() -> list[float]:
        """Copies to the host."""
        return list(Copies.D2H_time_list)

    @staticmethod
    def reset() -> None:
        """Forget them."""
        Copies().reset()


SESSIONS: dict[str, type[InferSessionT | InferSessionA | InferSessionN]] = {
    "T": InferSessionT,
    "A": InferSessionA,
    "N": InferSessionN,
}
InferSession = SESSIONS[settings.current().generation]
