"""How things go wrong: the errors that Python sees, the lines on stdout, and the ends of the process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from typing import NoReturn

from standin import settings
from standin.journal import journal

TEXTS = {
    -1: "ACL: general failure",
    1: "ACL: invalid parameter",
    2: "ACL: memory allocation fail",
    3: "ACL: runtime failure",
    26: "ACL: memory copy fail",
    1004: "Invalid parameter",
    100001: "ACL is not initialized",
}
"""The texts of error codes; most ACL codes have none and read "Error code unknown"."""
INFO, ERROR = 2, 4
_level = INFO


class ProcessEnded(BaseException):
    """Raised where the process would end or freeze, if the setting ``ends`` says so. Nothing ought to catch it."""


def acl_error(code: int) -> RuntimeError:
    """The error that the bindings raise for a code, with the blank at its end."""
    return RuntimeError(f"[{code}][{TEXTS.get(code, 'Error code unknown')}] ")


def set_log_level(level: int) -> None:
    """Show lines of this level and above, in the whole process: the last session wins."""
    global _level  # noqa: PLW0603 - the real one is a global of the process too
    _level = level


def log(level: int, text: str) -> None:
    """A log line."""
    if level >= _level:
        say(f"[{'ERROR' if level >= ERROR else 'INFO'}] {text}")


def say(text: str) -> None:
    """A line on file descriptor 1, past Python's ``sys.stdout``, as printf writes it."""
    with contextlib.suppress(OSError):
        os.write(1, text.encode() + b"\n")


def hold(seconds: float) -> None:
    """Let time pass with Python's lock held."""
    if seconds > 0:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def hang() -> NoReturn:
    """Never return, with Python's lock held; only SIGKILL ends the process."""
    _note_end("hang", "a fault was ordered")
    mutex = ctypes.create_string_buffer(64)  # zeros are an open mutex; locked twice, it never returns, signal or not
    while True:
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)


def crash(why: str) -> NoReturn:
    """End the process as a bad memory access does: SIGSEGV."""
    _note_end("SIGSEGV", why)
    _end(signal.SIGSEGV)


def abort(why: str) -> NoReturn:
    """End the process as std::terminate does: SIGABRT."""
    _note_end("SIGABRT", why)
    _end(signal.SIGABRT)


def violation(rule: str, **details: object) -> None:
    """Note that a rule of the packages was broken."""
    journal().record("violation", rule=rule, **details)


def _note_end(how: str, why: str) -> None:
    journal().record("end", how=how, why=why)
    if settings.current().ends == "as errors":
        raise ProcessEnded(f"{how}: {why}")


def _end(number: signal.Signals) -> NoReturn:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # leave no core file in the folder of whoever runs the tests
    while True:
        os.kill(os.getpid(), number)
        ctypes.PyDLL(None).pause()
