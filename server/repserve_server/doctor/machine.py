"""The machine as the checks see it: everything that they read, so that a test can make up another one."""

from __future__ import annotations

import os
import platform
import resource
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from repserve_server.ascend.commands import RunCommand, run_bounded
from repserve_server.ascend.installation import below
from repserve_server.process import available_cpus

UNLIMITED = resource.RLIM_INFINITY
_LIMITS = {"nofile": resource.RLIMIT_NOFILE, "memlock": resource.RLIMIT_MEMLOCK, "core": resource.RLIMIT_CORE}


@dataclass(frozen=True)
class Machine:
    """A machine; the defaults are this one.

    Attributes:
        root: the folder that stands for ``/``.
        environment: environment variables.
        user_id: the effective user.
        group_ids: all groups of that user.
        architecture: ``x86_64`` or ``aarch64``.
        python: version of Python.
        cpus: CPUs that the server may use.
        limits: soft limits ``nofile`` (descriptors), ``memlock`` and ``core`` (bytes); UNLIMITED for none.
        run: runs a command.
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    user_id: int = field(default_factory=os.geteuid)
    group_ids: frozenset[int] = field(default_factory=lambda: frozenset((os.getegid(), *os.getgroups())))
    architecture: str = field(default_factory=platform.machine)
    python: tuple[int, int] = (sys.version_info[0], sys.version_info[1])
    cpus: int = field(default_factory=available_cpus)
    limits: Mapping[str, int] = field(
        default_factory=lambda: {name: resource.getrlimit(number)[0] for name, number in _LIMITS.items()}
    )
    run: RunCommand = run_bounded

    def path(self, absolute: str) -> Path:
        """Return where the file with this absolute path is."""
        return below(self.root, absolute)

    def read(self, absolute: str) -> str:
        """Read the text of a file; empty where it does not exist or may not be read."""
        try:
            return self.path(absolute).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def may_read_and_write(self, absolute: str) -> bool:
        """Return whether the file's owner, group and mode let this user read and write it."""
        try:
            status = self.path(absolute).stat()
        except OSError:
            return False
        if self.user_id == 0:
            return True
        if status.st_uid == self.user_id:
            wanted = stat.S_IRUSR | stat.S_IWUSR
        elif status.st_gid in self.group_ids:
            wanted = stat.S_IRGRP | stat.S_IWGRP
        else:
            wanted = stat.S_IROTH | stat.S_IWOTH
        return status.st_mode & wanted == wanted
