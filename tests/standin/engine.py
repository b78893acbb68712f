"""A loaded model: what the C++ side of a session does, with its checks and no others."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from threading import get_native_id
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from standin import model_file, settings
from standin.descriptor import Description, describe
from standin.device import acl
from standin.executions import Timings
from standin.failures import ERROR, INFO, acl_error, crash, hang, hold, log, say, violation
from standin.faults import faults
from standin.journal import journal
from standin.network import Network
from standin.tensor import DataType, MemorySummary, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from standin.model_file import Header
    from standin.options import SessionOptions

GENERAL_FAILURE, INVALID_PARAMETER = -1, 1


@dataclass(frozen=True)
class Feed:
    """One input of a run as the device gets it.

    Only ``content`` counts. ``described`` is what Python said of it, (dtype, shape, contiguous), where that is known:
    what nobody checks is at least written down.
    """

    content: NDArray[np.uint8]
    on_host: bool = False
    described: tuple[DataType, tuple[int, ...], bool] | None = None


class Engine:
    """A model in a context of a device.

    Raises:
        RuntimeError: where the file cannot be loaded, ``[1]`` whatever the reason; where the device cannot be opened.
            The context of a failed load stays, for nobody destroys it.
    """

    live: ClassVar[weakref.WeakSet[Engine]] = weakref.WeakSet()

    def __init__(self, path: str, device: int, options: SessionOptions) -> None:
        self.options = options
        self._file = Path(path).name
        self.context = acl().open_context(device)
        about = {"file": self._file, "device": device, "context": self.context.index}
        try:
            self.header, self._network = self._load(Path(path))
        except RuntimeError as error:
            journal().record("load", **about, error=str(error))
            raise
        self.inputs, self.outputs = describe(self.header)
        self.timings = Timings()
        self._gear: int | None = None
        self._freed = False
        self._threads = {get_native_id()}
        self._returned: weakref.WeakSet[Tensor] = weakref.WeakSet()
        Engine.live.add(self)
        journal().record("load", **about, sizes=self.header.batch_sizes, gears=self.header.gears, aipp=self.header.aipp)
        say(f"[INFO] load model {self._file} success")

    def _load(self, path: Path) -> tuple[Header, Network]:
        if faults().strike("load"):
            log(ERROR, f"load model from file failed, model file is {path}, acl ret 500002")
            raise acl_error(INVALID_PARAMETER)
        try:
            header, onnx = model_file.read(path)
            network = Network(header, onnx)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no class in common
            log(ERROR, f"load model from file failed, model file is {path}, acl ret 145002: {error}")
            raise acl_error(INVALID_PARAMETER) from None
        chip = settings.current().soc_version
        if header.soc_version != chip or faults().has("wrong-soc"):
            say(f"EE1001: the model was compiled for {header.soc_version}, which this chip ({chip}) is not")
            log(ERROR, f"load model from file failed, model file is {path}, acl ret 145002")
            raise acl_error(INVALID_PARAMETER)
        return header, network

    def enter(self) -> None:
        """What every method of a session begins with: make its context current on this thread."""
        acl().use(self.context)
        thread = get_native_id()
        if thread not in self._threads:
            self._threads.add(thread)
            violation("other thread", file=self._file)

    def set_gear(self, batch: int) -> None:
        """Choose the batch of the next runs; raises RuntimeError, and changes nothing, if it is no gear."""
        self.enter()
        if not self.header.gears or batch not in self.header.batch_sizes:
            say(f"[ERROR] the dymBatch parameter is not correct: {batch}; gears: {list(self.header.batch_sizes)}")
            raise acl_error(INVALID_PARAMETER)
        self._gear = batch
        for entry in self.inputs:
            entry.realsize = entry.size * batch // self.header.batch_sizes[-1]

    def set_static(self) -> None:
        """Forget the gear; the size that the next run wants stays."""
        self.enter()
        self._gear = None

    @property
    def has_gear(self) -> bool:
        """Whether a gear is chosen."""
        return self._gear is not None

    def watch(self, index: int, described: tuple[DataType, tuple[int, ...], bool]) -> None:
        """Write down an input that is not what the model wants; the real packages notice none of this."""
        if index >= len(self.inputs):
            return
        entry = self.inputs[index]
        datatype, shape, contiguous = described
        fixed = not self.header.gears or self.has_gear
        wanted = (self._batch, *entry.shape[1:]) if fixed else shape[:1] + tuple(entry.shape[1:])
        if (datatype, shape, contiguous) != (entry.datatype, wanted, True):
            violation(
                "unchecked input",
                dtype=datatype.name,
                shape=shape,
                contiguous=contiguous,
                batch=self._batch,
            )

    @property
    def _batch(self) -> int:
        return self._gear or self.header.batch_sizes[-1]

    def run(self, names: Sequence[str], feeds: Sequence[Feed]) -> list[Tensor]:
        """Run the model once (``options.loop`` times).

        Raises:
            RuntimeError: ``[-1]`` for whatever goes wrong on the device. The real reason is on stdout only.
        """
        error: str | None = None
        try:
            return self._run(names, feeds)
        except RuntimeError as raised:
            error = str(raised)
            raise
        finally:
            copies = len(MemorySummary.H2D_time_list) + len(MemorySummary.D2H_time_list)
            journal().record(
                "run",
                file=self._file,
                context=self.context.index,
                batch=self._batch,
                error=error,
                executions=len(self.timings.entries),
                copies=copies,
            )
            if faults().leak_limit is not None and not acl().memory_full:
                acl().leak(sum(len(feed.content) for feed in feeds))

    def _run(self, names: Sequence[str], feeds: Sequence[Feed]) -> list[Tensor]:
        self._check(feeds)
        images = self._network.images(feeds[0].content, self._batch)
        self._strike(faults().strike("run") or faults().poisoned(images))
        for _ in range(self.options.loop):
            begin = time.perf_counter()
            scores = self._network.run(images)
            hold(settings.current().seconds_of(self._batch) - (time.perf_counter() - begin))
            self.timings.add(begin, time.perf_counter())
        say(f"[INFO] model execute success: {self._file}, {len(self.timings.entries)} times")
        if any(name != self.header.output_name for name in names):
            raise self._failure(f"outnames {list(names)} not valid")
        return [self._output(scores) for _ in names]

    def _check(self, feeds: Sequence[Feed]) -> None:
        if acl().memory_full:
            raise self._failure(f"check i:0 in size:2 needsize:{self.inputs[0].realsize} not match")
        for index, feed in enumerate(feeds):
            if index >= len(self.inputs):
                crash("more feeds than the model has inputs")
            if feed.described:
                self.watch(index, feed.described)
            if len(feed.content) != self.inputs[index].realsize:
                sizes = f"in size:{len(feed.content)} needsize:{self.inputs[index].realsize}"
                raise self._failure(f"check i:{index} name:{self.inputs[index].name} {sizes} not match")
            if feed.on_host:
                violation("host memory fed to the device")
                raise self._failure("acl execute failed: 507015")
        if len(feeds) < len(self.inputs):
            raise self._failure(f"intensors in:{len(feeds)} need:{len(self.inputs)} not match")
        if self.header.gears and not self.has_gear:
            raise self._failure("acl execute failed: 100000, no batch size was set")

    def _strike(self, kind: str | None) -> None:
        if kind == "hang":
            hang()
        if kind == "crash":
            crash("a fault was ordered")
        if kind is not None:
            raise self._failure("acl execute failed: 507011")

    def _failure(self, reason: str) -> RuntimeError:
        log(ERROR, reason)
        return acl_error(GENERAL_FAILURE)

    def _output(self, scores: NDArray[np.float32]) -> Tensor:
        buffer = np.full((self.header.batch_sizes[-1], self.header.classes), np.nan, np.float32)
        buffer[: len(scores)] = scores
        tensor = Tensor.on_device(buffer, scores.shape, self.context)
        self._returned.add(tensor)
        return tensor

    def free(self) -> int:
        """Unload the model and destroy the context; 1 if that was done before."""
        acl().check_process()
        if self._freed or not self.context.alive:
            journal().record("free", file=self._file, again=True)
            log(ERROR, "set context failed. ret=1")
            return 1
        left = sum(1 for tensor in self._returned if not tensor.on_host)
        if left:
            violation("tensors outlive their session", tensors=left)
        self._unload()
        self.context.alive = False
        journal().record("free", file=self._file, context=self.context.index, again=False)
        return 0

    def abandon(self) -> None:
        """Unload the model of a session that is collected without having been freed; its context leaks."""
        if not self._freed:
            self._unload()
            journal().record("unload", file=self._file, context=self.context.index)

    def finalise(self) -> int:
        """Generation T's finalize: unload this model, then end ACL for the whole process."""
        self.abandon()
        return acl().finalise(len(Engine.live))

    def _unload(self) -> None:
        self._freed = True
        Engine.live.discard(self)
        log(INFO, f"unload model {self._file} success")

    def describe(self) -> str:
        """What ``str(session)`` says; raises RuntimeError after it was freed."""
        self.enter()

        def lines(entries: list[Description]) -> str:
            return "".join(f"  #{i}    {e.name}  {e.shape}  {e.datatype.name}  {e.size}" for i, e in enumerate(entries))

        return (
            f"<Model>\ndevice:\t{self.context.device}\ninput:\n{lines(self.inputs)}\noutput:\n{lines(self.outputs)}\n"
        )
