"""Running a command for a limited time.

The vendor's commands hang when the driver does, and then even SIGKILL may not end them: ``subprocess.run`` would wait
for them without a limit.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence

_KILL_SECONDS = 2.0
"""How long to wait for a killed process. One that is stuck in the kernel is left behind."""


RunCommand = Callable[[Sequence[str], float, Mapping[str, str]], subprocess.CompletedProcess[str]]
"""Runs a command: its arguments, the seconds it may take, its environment."""


def run_bounded(
    command: Sequence[str], timeout: float, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command and capture its output, as text.

    Args:
        command: the program and its arguments.
        timeout: seconds that it may take.
        environment: its environment variables.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it took longer, and was killed.
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
    finally:
        end_process(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


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
