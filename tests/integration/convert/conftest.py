from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from support.onnx2om_harness import runs, started, write_model
from support.standin_atc import install_atc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def atc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in is the first atc in PATH; the working folder is empty."""
    script = install_atc(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STANDIN_ATC_PIDS", str(tmp_path / "pids"))
    monkeypatch.delenv("STANDIN_ATC_FAULT", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield
    for pid in filter(runs, started(tmp_path)):  # where a test failed
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "means.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "work" / "repo" / "means" / "1"
