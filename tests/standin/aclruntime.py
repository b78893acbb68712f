"""The stand-in's ``aclruntime``: the names of the real module that a server may use."""

from __future__ import annotations

from standin import settings
from standin.descriptor import TensorDescriptor as tensor_desc  # noqa: N813
from standin.driver import open_driver
from standin.failures import crash
from standin.options import SessionOptions as session_options  # noqa: N813
from standin.session import session_class
from standin.tensor import BaseTensor, MemorySummary, Tensor
from standin.tensor import DataType as dtype  # noqa: N813
from standin.tensor import MemoryType as type  # noqa: A004, N813

__all__ = [
    "BaseTensor",
    "InferenceSession",
    "MemorySummary",
    "Tensor",
    "dtype",
    "memory_device",
    "memory_dvpp",
    "memory_host",
    "model",
    "session_options",
    "tensor_desc",
    "type",
]

open_driver()

InferenceSession = session_class()
memory_host, memory_device, memory_dvpp = type.memory_host, type.memory_device, type.memory_dvpp


def model(modelPath: str, deviceId: int = 0, options: session_options | None = None) -> InferenceSession:  # type: ignore[valid-type]  # noqa: N803
    """A session, if options are given; the default ends the process."""
    if options is None:
        crash("aclruntime.model was called without options")
    return InferenceSession(modelPath, deviceId, options)


if settings.current().generation == "N":

    def get_run_mode() -> int:
        """1: host and device have memories of their own, as with a card in a server."""
        return 1
