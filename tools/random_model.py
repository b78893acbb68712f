"""RepVGG-A0 with random weights, for measurements of speed where the real ones are not at hand."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

CONVERT_TIMEOUT = 120.0


class ConversionError(Exception):
    """``repserve convert`` failed; the message holds what it printed."""


def ensure_random_model(version: Path, console: Console) -> None:
    """Make RepVGG-A0 with random weights in a version folder, unless a model is there already.

    Raises:
        ConversionError: The conversion failed.
    """
    if (version / "model.onnx").exists():
        console.print(f"{version}: already there.", highlight=False)
        return
    console.print(
        f"{version}: creating it with random weights (seed 0): for speed tests, without meaningful accuracy.",
        highlight=False,
    )
    command = [sys.executable, "-m", "repserve_client.cli", "convert", "random"]
    command += ["--variant", "A0", "--seed", "0", "--into", str(version)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CONVERT_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConversionError(f"'repserve convert random' took more than {CONVERT_TIMEOUT:.0f} s") from error
    if done.returncode:
        raise ConversionError(f"'repserve convert random' failed:\n{done.stdout}{done.stderr}")
