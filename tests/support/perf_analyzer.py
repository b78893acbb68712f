"""NVIDIA's perf_analyzer, fetched once into this environment where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "perf_analyzer"
WHEELS = ("tritonclient==2.41.0", "nvidia-cuda-runtime-cu12==12.9.79")
"""The last wheel of the client that brings the program, and the one library of CUDA that it is linked to."""
DEBIAN_PACKAGE = "libb64-0d"
SECONDS = 180


@dataclass(frozen=True)
class PerfAnalyzer:
    """The program and where its libraries are."""

    program: Path
    libraries: tuple[Path, ...]

    def run(self, *arguments: str) -> str:
        """Run it and return what it prints; the test fails if it does."""
        path = os.pathsep.join(map(str, self.libraries))
        ended = subprocess.run(
            [str(self.program), *arguments],
            env={**os.environ, "LD_LIBRARY_PATH": path},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


def find_perf_analyzer() -> PerfAnalyzer:
    """The program, fetched if it is not there yet; the test is skipped, saying why, where it cannot be had."""
    program = next(FOLDER.glob("**/perf_analyzer"), None) or _fetch()
    found = PerfAnalyzer(program, tuple({library.parent for library in FOLDER.rglob("lib*.so.*")}))
    try:
        found.run("--version")
    except (OSError, AssertionError) as error:
        pytest.skip(f"perf_analyzer does not run here: {error}")
    return found


def _fetch() -> Path:
    partial = FOLDER.with_name("perf_analyzer.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(partial), *WHEELS], partial)
    for wheel in partial.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(partial)
    if shutil.which("apt-get") and shutil.which("dpkg"):
        _run(["apt-get", "download", DEBIAN_PACKAGE], partial)
        for package in partial.glob("*.deb"):
            _run(["dpkg", "--extract", str(package), str(partial)], partial)
    program = next(partial.glob("**/bin/perf_analyzer"), None)
    if program is None:
        pytest.skip("the wheel holds no perf_analyzer")
    program.chmod(0o755)
    partial.rename(FOLDER)
    return FOLDER / program.relative_to(partial)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", "") or str(error)
        pytest.skip(f"perf_analyzer cannot be fetched, {command[0]} failed: {str(why).strip()[-300:]}")
