"""Memory on host and device, as aclruntime gives it to Python: ``Tensor``, ``BaseTensor``, ``MemorySummary``."""

from __future__ import annotations

import ctypes
import operator
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from standin import settings
from standin.device import acl
from standin.failures import acl_error
from standin.journal import journal

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from standin.device import Context

DEVICE_IDS = 256
NO_MEMORY = 2
BAD_DEVICE_ID = 1004


class DataType(Enum):
    """``aclruntime.dtype``: names are numpy's but for ``double``, values are ACL's."""

    float32 = 0
    float16 = 1
    int8 = 2
    int32 = 3
    uint8 = 4
    int16 = 6
    uint16 = 7
    uint32 = 8
    int64 = 9
    uint64 = 10
    double = 11
    bool = 12

    def __int__(self) -> int:
        return self.value

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The element type in numpy."""
        return np.dtype(self.name)

    @classmethod
    def of(cls, element: np.dtype[Any]) -> DataType:
        """The data type of numpy elements; what is unknown is silently uint8."""
        name = "double" if element == np.float64 else element.name
        return cls[name] if name in cls.__members__ else cls.uint8


class MemoryType(Enum):
    """``aclruntime.type``."""

    memory_host = 0
    memory_device = 1
    memory_dvpp = 2


class MemorySummary:
    """How long each copy took, in seconds of nothing in particular: one list for the process, which only grows."""

    H2D_time_list: ClassVar[list[float]] = []
    D2H_time_list: ClassVar[list[float]] = []

    def reset(self) -> None:
        """Forget all copies."""
        journal().record("reset", list="copies", length=len(self.H2D_time_list) + len(self.D2H_time_list))
        self.H2D_time_list.clear()
        self.D2H_time_list.clear()


class BaseTensor:
    """An address on the host and a number of bytes; whoever made it keeps the memory alive until the run is over."""

    def __init__(self, buf: int, size: int, /) -> None:
        self.buf, self.size = operator.index(buf), operator.index(size)

    def copy(self) -> NDArray[np.uint8]:
        """The bytes there, copied as to a device."""
        return copy_memory(self.buf, self.size)


def copy_memory(address: int, size: int) -> NDArray[np.uint8]:
    """Copy ``size`` bytes from an address, and note the time."""
    begin = time.perf_counter()
    content = _bytes_at(address, size)
    MemorySummary.H2D_time_list.append((time.perf_counter() - begin) * 1e3)
    return content


def _bytes_at(address: int, size: int) -> NDArray[np.uint8]:
    content = np.empty(size, np.uint8)
    ctypes.memmove(content.ctypes.data, address, size)
    return content


class Tensor:
    """A copy of an array in memory that ACL owns, first on the host.

    Strides are ignored: of an array that is not contiguous, the first bytes are taken as they lie. Making one needs a
    current context on the thread. On the host ``numpy.asarray`` is a view. On a device numpy gets nothing out of it and
    silently makes an array of type object, without dimensions. (The real one also lends its memory to ``memoryview``.)
    """

    def __init__(self, buffer: object, /, *device: int) -> None:
        if len(device) > (settings.current().generation == "N"):
            raise TypeError(f"__init__(): incompatible constructor arguments: {1 + len(device)} were given")
        array = np.asarray(memoryview(cast("Buffer", buffer)))
        to_device = bool(device) and operator.index(device[0]) >= 0
        if not to_device and not acl().has_current():
            raise acl_error(NO_MEMORY)
        self.contiguous = array.flags.c_contiguous
        self._fill(DataType.of(array.dtype), array.shape)
        size = array.size * self._dtype.numpy.itemsize
        self._memory = _bytes_at(array.ctypes.data, size)
        if to_device:
            self.to_device(device[0])

    def _fill(self, dtype: DataType, shape: tuple[int, ...]) -> None:
        self._dtype, self._shape = dtype, shape
        self._type, self._device = MemoryType.memory_host, -1
        self._context: Context | None = None

    @classmethod
    def on_device(cls, values: NDArray[np.generic], shape: tuple[int, ...], context: Context) -> Tensor:
        """An output of a model: ``values`` may be longer than ``shape`` needs, as the largest gear's buffer is."""
        tensor = cls.__new__(cls)
        tensor.contiguous = True
        tensor._fill(DataType.of(values.dtype), shape)
        tensor._memory = np.frombuffer(values, np.uint8)
        tensor._type, tensor._device, tensor._context = MemoryType.memory_device, context.device, context
        return tensor

    @property
    def type(self) -> MemoryType:
        """Where it is."""
        return self._type

    @property
    def device(self) -> int:
        """The device it is on, -1 for the host."""
        return self._device

    @property
    def dtype(self) -> DataType:
        """The type of its elements."""
        return self._dtype

    @property
    def shape(self) -> list[int]:
        """Its shape."""
        return list(self._shape)

    @property
    def byte_size(self) -> int:
        """Bytes of the elements."""
        return int(np.prod(self._shape, dtype=np.int64)) * self._dtype.numpy.itemsize

    @property
    def on_host(self) -> bool:
        """Whether the host can read it."""
        return self._type is MemoryType.memory_host

    def to_device(self, device: int, /) -> None:
        """Copy it to the device, in place, in the context of the device's first session."""
        number = operator.index(device)
        if settings.current().generation == "N" and not 0 <= number < DEVICE_IDS:
            raise RuntimeError("device id is out of range")
        if not acl().has_device(number):
            raise acl_error(BAD_DEVICE_ID)
        if self._device == number:
            return
        context = acl().first_context(number)
        acl().use(context)
        self._memory = copy_memory(self._memory.ctypes.data, len(self._memory))
        self._type, self._device, self._context = MemoryType.memory_device, number, context

    def to_host(self) -> None:
        """Copy it to the host, in place."""
        if self.on_host:
            return
        if not acl().has_current():
            raise acl_error(NO_MEMORY)
        assert self._context is not None
        acl().use(self._context)
        begin = time.perf_counter()
        self._memory = self._memory.copy()
        MemorySummary.D2H_time_list.append((time.perf_counter() - begin) * 1e3)
        self._type, self._device = MemoryType.memory_host, -1

    @property
    def content(self) -> NDArray[np.uint8]:
        """The bytes of the elements, wherever they are."""
        return self._memory[: self.byte_size]

    @property
    def __array_interface__(self) -> dict[str, Any]:
        if not self.on_host:
            raise AttributeError("the memory is on the device")
        return {
            "version": 3,
            "shape": self._shape,
            "typestr": self._dtype.numpy.str,
            "data": (self._memory.ctypes.data, False),
        }

    def __repr__(self) -> str:
        return f"<Tensor>\nshape:\t{self._shape}\ndtype:\t{self._dtype.name}\ndevice:\t{self._device}"
