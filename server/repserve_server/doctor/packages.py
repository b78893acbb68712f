"""Checks of the Python packages that run models on the chosen devices."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util

from repserve_server.ascend.packages import DISTRIBUTIONS, ImportOutcome
from repserve_server.doctor.check import Check, Group, Status
from repserve_server.doctor.machine import Machine
from repserve_server.settings import Settings

_CPU_RUNTIMES = {"auto": "openvino", "openvino": "openvino", "onnxruntime": "onnxruntime"}
"""The package of each setting ``runtime``."""
_NEWEST_WHEEL = (3, 12)
"""The newest Python that aclruntime's wheels are built for, by the release that docs/ascend.md names."""
_check = functools.partial(Check, Group.PACKAGES)


def check_python(machine: Machine, *, npu: bool) -> Check:
    """Check that the vendor has wheels for this Python."""
    version = f"{machine.python[0]}.{machine.python[1]}"
    if npu and machine.python > _NEWEST_WHEEL:
        newest = f"{_NEWEST_WHEEL[0]}.{_NEWEST_WHEEL[1]}"
        return _check(
            "Python",
            Status.WARNING,
            f"{version} on {machine.architecture}; aclruntime's wheels end at Python {newest}",
            f"use a virtual environment with Python {newest}, or build aclruntime from its source",
        )
    return _check("Python", Status.OK, f"{version} on {machine.architecture}")


def check_vendor_packages(outcome: ImportOutcome) -> Check:
    """Check that ``aclruntime`` and ``ais_bench`` could be imported."""
    status = Status.PROBLEM if outcome.advice else Status.OK
    return _check(", ".join(DISTRIBUTIONS), status, outcome.found, outcome.advice)


def check_runtime(settings: Settings) -> Check:
    """Check that the runtime of the device ``cpu`` is installed; the trial shows whether it works."""
    runtime = settings.runtime
    package = _CPU_RUNTIMES.get(runtime) or runtime.partition(":")[0].partition(".")[0]
    if runtime not in _CPU_RUNTIMES and not (package and ":" in runtime):
        return _check(
            "runtime",
            Status.PROBLEM,
            f"unknown runtime {runtime!r}",
            f"use one of {', '.join(_CPU_RUNTIMES)}, or package.module:Class",
        )
    if importlib.util.find_spec(package) is None:
        extras = "server,onnxruntime" if package == "onnxruntime" else "server"
        own = runtime not in _CPU_RUNTIMES
        how = f"install {package}, or add it to PYTHONPATH" if own else f"pip install 'repserve[{extras}]'"
        return _check("runtime", Status.PROBLEM, f"{package} is not installed", how)
    if runtime not in _CPU_RUNTIMES:
        return _check("runtime", Status.OK, f"{runtime}: the package {package} is installed")
    return _check("runtime", Status.OK, f"{package} {importlib.metadata.version(package)}")
