"""``make demo`` as a newcomer runs it: from the shipped files alone, and nothing is left when it ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import psutil

from support.harness import MODEL_REPOSITORY, ROOT, wait_until

if TYPE_CHECKING:
    from pathlib import Path

MARK = "DEMO_OF_THIS_TEST"
"""An environment variable that the demo's processes inherit, so that all of them can be found."""


def demo_processes(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == mark
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if marked and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_the_demo_serves_the_card_s_predictions_prints_the_table_and_leaves_nothing(tmp_path: Path) -> None:
    # The versions of repvgg_a0 are not shipped: the demo must make one.
    shutil.copytree(
        MODEL_REPOSITORY,
        tmp_path / "model_repo",
        ignore=lambda folder, _: {"1"} if folder.endswith("repvgg_a0") else set(),
    )
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "demo.py"), "--seconds", "1"],
        cwd=tmp_path,
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        wait_until(lambda: len(demo_processes(mark)) > 1, "the demo has started a process", 60)
        output, _ = demo.communicate(timeout=150)
    assert demo.returncode == 0, output
    wait_until(lambda: not demo_processes(mark), "the demo's processes have ended", 5)

    assert "random weights" in output
    assert "digit_00021.jpg -> repvgg_digits version 1" in output
    recorded, served = re.findall(r"^top-1 (?:of the \.pth|served).*: +([\d.]+ %)$", output, re.MULTILINE)
    assert recorded == served
    assert "360 of 360 predictions equal" in output
    rows = [line for line in output.splitlines() if line.startswith("RepVGG bs")]
    assert [("bs16" in row, "SIMULATED" in row) for row in rows] == [
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    ]
    assert all("8752" in row for row in rows[2:])
    assert "What to do next" in output
