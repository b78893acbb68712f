"""Whether the vendor's Python packages can be imported, tried in a process of its own.

An import loads CANN's libraries, which print to standard output and may crash or hang where the driver is broken.
``python -m repserve_server.ascend.packages PARENT_PROCESS_ID`` prints one line of JSON.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from repserve_server.ascend.commands import RunCommand, run_bounded
from repserve_server.process import become_child

IMPORT_SECONDS = 60.0
DISTRIBUTIONS = ("aclruntime", "ais_bench")
_MODULES = ("aclruntime", "ais_bench.infer.interface")


@dataclass(frozen=True)
class ImportOutcome:
    """The result of an import: what was found, and what to do; ``advice`` is empty where the packages work."""

    found: str
    advice: str = ""


def describe_import_error(error: ImportError) -> ImportOutcome:
    """Explain why ``aclruntime`` or ``ais_bench`` cannot be imported, and what to install.

    A package that is not installed raises ModuleNotFoundError; one that lacks CANN's libraries, ImportError.
    """
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in DISTRIBUTIONS:
        return ImportOutcome(
            f"{error.name} is not installed",
            "NPUs need the wheels aclruntime and ais_bench from the vendor's ais_bench release (they are not on PyPI), "
            "for this version of Python; docs/ascend.md says where",
        )
    return ImportOutcome(
        f"aclruntime cannot be loaded: {error}",
        "install CANN (toolkit or nnrt) and the driver, and run "
        "`source /usr/local/Ascend/ascend-toolkit/set_env.sh` before the server",
    )


def try_import(
    environment: Mapping[str, str], timeout: float = IMPORT_SECONDS, run: RunCommand = run_bounded
) -> ImportOutcome:
    """Import the packages in a new process with this environment; it may take ``timeout`` seconds."""
    advice = "run `python -c 'import aclruntime'` to see what it prints; the driver's own lines are in ~/ascend/log"
    try:
        done = run(
            [sys.executable, "-P", "-m", "repserve_server.ascend.packages", str(os.getpid())], timeout, environment
        )
    except subprocess.TimeoutExpired:
        return ImportOutcome(f"the import did not finish within {timeout:.0f} s: the driver hangs", advice)
    if done.returncode == 0:
        return ImportOutcome(**json.loads(done.stdout))
    how = f"by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"with status {done.returncode}"
    lines = done.stderr.strip().splitlines()
    return ImportOutcome(f"the import ended {how}{f' ({lines[-1].strip()})' if lines else ''}", advice)


def _import() -> ImportOutcome:
    try:
        for module in _MODULES:
            importlib.import_module(module)
    except ImportError as error:
        return describe_import_error(error)
    return ImportOutcome(", ".join(f"{name} {_version(name)}" for name in DISTRIBUTIONS))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "(unknown version)"


def main(arguments: list[str]) -> int:
    """Print the outcome; what the libraries print meanwhile goes to standard error."""
    answer = os.dup(sys.stdout.fileno())
    become_child(int(arguments[0]), "repserve-import")
    outcome = _import()
    os.write(answer, json.dumps(asdict(outcome)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
