"""From a device's name to the backend that runs models on it. Runtimes are imported only when chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from repserve_server.backends.base import Backend, BackendError, BackendOptions

RUNTIMES = ("openvino", "onnxruntime")
"""The runtimes of the device ``cpu``; the first is the default."""


def create_backend(options: BackendOptions) -> Backend:
    """Load the model of a version folder onto a device.

    Raises:
        BackendError: the device is not known, a package is missing, or the model does not fit.
    """
    if options.device.startswith("sim:"):
        from repserve_server.backends.simulated import SimulatedBackend

        return SimulatedBackend(options)
    if options.device.startswith("npu:"):
        from repserve_server.backends.acl import AclBackend

        return AclBackend(options)
    if options.device != "cpu":
        raise BackendError(
            f"device {options.device!r} is not known; use cpu, an NPU such as npu:0, or sim:310p, sim:310, sim:t4 to "
            "simulate one"
        )
    try:
        return _create_cpu_backend(options)
    except ModuleNotFoundError as error:
        extras = "server,onnxruntime" if error.name == "onnxruntime" else "server"
        raise BackendError(f"{error.name} is not installed: pip install 'repserve[{extras}]'") from error


def _create_cpu_backend(options: BackendOptions) -> Backend:
    runtime = RUNTIMES[0] if options.runtime == "auto" else options.runtime
    if runtime == "openvino":
        from repserve_server.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(options)
    if runtime == "onnxruntime":
        from repserve_server.backends.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(options)
    if ":" in runtime:
        return _create_own_backend(runtime, options)
    raise BackendError(
        f"runtime {runtime!r} is not known; use one of auto, {', '.join(RUNTIMES)}, or package.module:Class"
    )


def _create_own_backend(runtime: str, options: BackendOptions) -> Backend:
    """Make a backend of a class from outside this package, with the options as its only argument."""
    module, _, name = runtime.partition(":")
    try:
        create: Callable[[BackendOptions], Backend] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BackendError(f"runtime {runtime!r} cannot be imported: {error}") from error
    return create(options)
