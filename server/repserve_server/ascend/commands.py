"""Running a command for a limited time.

The vendor's commands hang when the driver does, and then even SIGKILL may not end them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_KILL_SECONDS = 2.0
"""How long to wait for a killed process. One that is stuck in the kernel is left behind."""


class CommandTimeoutError(Exception):
    """A command did not finish in time."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended: its exit status, negative for the number of a signal, and what it printed."""

    status: int
    output: str
    errors: str = ""


RunCommand = Callable[[Sequence[str], float, Mapping[str, str]], CommandResult]
"""Runs a command: its arguments, the seconds it may take, its environment."""


def run_bounded(command: Sequence[str], timeout: float, environment: Mapping[str, str]) -> CommandResult:
    """Run a command and capture its output.

    Args:
        command: the program and its arguments.
        timeout: seconds that it may take.
        environment: its environment variables.

    Raises:
        OSError: it cannot be started.
        CommandTimeoutError: it took longer, and was killed.
    """
    process = subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise CommandTimeoutError(f"{' '.join(command)} did not finish within {timeout:.0f} s") from error
    finally:
        end_process(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return CommandResult(process.returncode, output, errors)


def end_process(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> bool:
    """Kill a process if it still runs, and wait a bounded time for it; returns whether it has ended."""
    if process.poll() is not None:
        return True
    process.kill()
    try:
        process.wait(_KILL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True
