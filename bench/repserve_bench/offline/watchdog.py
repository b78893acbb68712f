"""A process that kills this one when loading a model on an NPU, or a run, does not return.

The vendor's library holds the GIL meanwhile, so no thread of this process can notice, and Ctrl-C has no effect.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

LOAD_SECONDS = 600.0
RUN_SECONDS = 60.0
_BEGIN, _END = b"b", b"e"


class Watchdog:
    """Limits the time spent inside ``watch``; when it is exceeded, prints an error and kills this process.

    Start it before using ACL: starting a process forks this one for a moment.

    Args:
        seconds: The limit.
        doing: What is done, for the message, such as ``loading model_bs1.om on npu:0``.
    """

    def __init__(self, seconds: float, doing: str) -> None:
        self._seconds, self._doing = seconds, doing

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), str(self._seconds), self._doing],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # Ctrl-C in the terminal must not reach it.
            process_group=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Limit the time of this block."""
        self._send(_BEGIN)
        try:
            yield
        finally:
            self._send(_END)

    def _send(self, mark: bytes) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), mark)


def guard(process: int, seconds: float, doing: str) -> None:
    """Kill a process when too much time passes between a begin and an end mark on standard input."""
    limit: float | None = None
    while True:
        if not select.select([0], [], [], limit)[0]:
            break
        read = os.read(0, 4096)
        if not read:
            return
        limit = seconds if read.endswith(_BEGIN) else None
    sys.stderr.write(
        f"Error: {doing} has not returned for {seconds:g} s, so this command was killed: check the device with "
        "`npu-smi info`, and ~/ascend/log; no existing file was changed\n"
    )
    sys.stderr.flush()
    os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    guard(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
