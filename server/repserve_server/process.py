"""Linux features of a process: dying with its parent, exact sleeps, orderly exits, and the number of usable CPUs."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEVICE_FAILED = 3
"""Exit status of a worker whose device failed, and which a new worker is to replace."""
_STDIN, _STDOUT, _STDERR = range(3)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_TIMERSLACK = 29


def _prctl(option: int, argument: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_char_p(argument) if isinstance(argument, bytes) else argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def allow_descriptors(count: int) -> None:
    """Raise the limit of open file descriptors to ``count``, or as far as the hard limit allows; never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_standard_descriptors() -> None:
    """Give standard input, output and error to /dev/null where whoever started this process had closed them.

    Otherwise the next file or socket takes the number, and what is printed goes into it.
    """
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is the one that is missing.
            os.open(os.devnull, os.O_RDWR)


def set_timer_slack(nanoseconds: int) -> None:
    """Let this thread's sleeps end that close to their time (the default lets them be 50 microseconds late)."""
    _prctl(_PR_SET_TIMERSLACK, nanoseconds)


def give_way(niceness: int) -> None:
    """Let other threads go before this one where they compete for a CPU; on Linux each thread has its own niceness."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def become_child(parent: int, name: str) -> None:
    """Tie this process to its parent, leave signals to it, and send what is printed to the log.

    The kernel kills this process when the parent's spawning thread ends, even if it is stuck in a device call. Ctrl-C
    and a service manager's SIGTERM reach the whole group; the supervisor alone decides what they mean.

    Vendors' libraries print to standard output from C, so the descriptor itself becomes that of the log. A pipe back to
    this process would not do: a library that prints while it holds Python's lock could wait for ever for its reader.

    Args:
        parent: process id of the supervisor, from the supervisor itself.
        name: up to 15 characters for ps and top.

    Raises:
        SystemExit: the parent was gone already.
    """
    os.dup2(_STDERR, _STDOUT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NAME, name.encode()[:15])
    if os.getppid() != parent:
        raise SystemExit("the process that started this one is gone")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP where it is not ignored, end this process as Ctrl-C does: what is under way is undone."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def available_cpus() -> int:
    """CPUs this process may use: its affinity, cut to the cgroup's quota (rounded up), at least one."""
    affinity = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    return max(1, min(affinity, math.ceil(quota)) if quota is not None else affinity)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPUs that cgroup v2 allows this process and its ancestors, or None where there is no limit."""
    try:
        line = next(line for line in membership.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    limits = []
    folder = root / line.removeprefix("0::").lstrip("/")
    for level in (folder, *folder.parents):
        try:
            quota, period = (level / "cpu.max").read_text().split()
        except (OSError, ValueError):
            quota, period = "max", "1"
        if quota != "max":
            limits.append(int(quota) / int(period))
        if level == root:
            break
    return min(limits, default=None)
