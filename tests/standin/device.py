"""One process's share of ACL: initialised once, contexts per device, which thread has which, and what leaked."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache

from standin import settings
from standin.failures import INFO, abort, acl_error, log, violation
from standin.faults import faults
from standin.journal import journal

OPEN_FAILED = 507033
NO_SUCH_DEVICE = 107001
NOT_INITIALISED = 100001
INVALID_PARAMETER = 1


@dataclass
class Context:
    """A context of a device. Everything on a device happens in one, and its number is never used again."""

    device: int
    index: int
    alive: bool = True


class Acl:
    """What aclInit sets up in a process, until aclFinalize.

    The first session initialises. In generation T all sessions of a device share one context, in A and N each has its
    own.
    """

    def __init__(self) -> None:
        self._initialised_in: int | None = None
        self._finalised = False
        self._contexts: dict[int, list[Context]] = {}
        self._thread = threading.local()
        self._leaked = 0

    def check_process(self) -> None:
        """End a forked child that uses what its parent initialised: the state does not survive a fork."""
        if self._initialised_in not in (None, os.getpid()):
            violation("used after fork", initialised_in=self._initialised_in)
            abort("ACL was initialised before the fork")

    def open_context(self, device: int) -> Context:
        """The context of a new session, current on this thread; initialises ACL and opens the device the first time.

        Raises:
            RuntimeError: after finalize, for a device that there is not, and where a fault says so.
        """
        self.check_process()
        if self._finalised:
            raise acl_error(NOT_INITIALISED)
        if self._initialised_in is None:
            self._initialised_in = os.getpid()
            journal().record("init")
            log(INFO, "acl init success")
        if device not in self._contexts:
            self._open_device(device)
        contexts = self._contexts[device]
        if settings.current().generation != "T" or not contexts:
            contexts.append(Context(device, len(contexts)))
            log(INFO, "create new context")
        self.use(contexts[-1])
        return contexts[-1]

    def _open_device(self, device: int) -> None:
        if not 0 <= device < int(settings.current().devices):
            raise acl_error(NO_SUCH_DEVICE)
        if faults().strike("open"):
            journal().record("open", device=device, error=OPEN_FAILED)
            raise acl_error(OPEN_FAILED)
        self._contexts[device] = []
        journal().record("open", device=device)
        log(INFO, f"open device {device} success")

    def use(self, context: Context) -> None:
        """Make a context current on this thread; raises RuntimeError if it was destroyed."""
        self.check_process()
        if not context.alive:
            raise acl_error(INVALID_PARAMETER)
        self._thread.current = context

    def has_current(self) -> bool:
        """Whether this thread has a context that still exists."""
        self.check_process()
        current: Context | None = getattr(self._thread, "current", None)
        return current is not None and current.alive

    def has_device(self, device: int) -> bool:
        """Whether there is such a device."""
        return 0 <= device < int(settings.current().devices)

    def first_context(self, device: int) -> Context:
        """The context that copies to the device use: that of its first session, whatever became of it."""
        contexts = self._contexts.get(device)
        if not contexts:
            raise acl_error(INVALID_PARAMETER)
        return contexts[0]

    def leak(self, size: int) -> None:
        """Note a buffer of ``size`` bytes that nobody will free."""
        self._leaked += 1
        journal().record("leak", bytes=size, buffers=self._leaked)

    @property
    def memory_full(self) -> bool:
        """Whether so much has leaked that no input fits any more."""
        limit = faults().leak_limit
        return limit is not None and self._leaked >= limit

    def finalise(self, live_sessions: int) -> int:
        """Destroy all contexts, reset the devices and end ACL in this process for good; nothing the second time."""
        self.check_process()
        if self._initialised_in is None or self._finalised:
            return 0
        if live_sessions:
            violation("finalised with live models", sessions=live_sessions)
        for context in (context for contexts in self._contexts.values() for context in contexts):
            context.alive = False
        self._finalised = True
        journal().record("finalize")
        log(INFO, "end to finalize acl")
        return 0


@cache
def acl() -> Acl:
    """The ACL of this process."""
    return Acl()
