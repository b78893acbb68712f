"""A process that ends this one when an NPU does not come back from loading a model or from a run.

The vendor's library holds Python's lock meanwhile, so no thread of this process can notice, and Ctrl-C does nothing.
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
    """Times what is done inside ``watch``; when that takes too long, says so on standard error and kills.

    To be started before anything of ACL: starting a process forks this one for a moment.

    Args:
        seconds: How long anything may take.
        doing: What that is, for people, such as ``loading model_bs1.om on npu:0``.
    """

    def __init__(self, seconds: float, doing: str) -> None:
        self._seconds, self._doing = seconds, doing

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), str(self._seconds), self._doing],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # A terminal's Ctrl-C is not for it.
            process_group=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Time what is done in this block."""
        self._tell(_BEGIN)
        try:
            yield
        finally:
            self._tell(_END)

    def _tell(self, what: bytes) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._process.stdin.fileno(), what)


def guard(process: int, seconds: float, doing: str) -> None:
    """Kill a process when, too much time passes between a begin and an end on standard input."""
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
