"""The sockets on which this process listens, so that the supervisor can hold them too."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")
MOST = 8


def listening_sockets(ports: Collection[int]) -> list[socket.socket]:
    """Duplicates of the listening sockets of these ports, at most MOST; the caller closes them.

    gRPC makes its sockets itself and does not hand them out, but they are this process's all the same. A socket that
    another process holds too goes on listening when this one dies.
    """
    found: list[socket.socket] = []
    for candidate in _duplicates():
        if len(found) < MOST and _listens(candidate, ports):
            found.append(candidate)
        else:
            candidate.close()
    return found


def _duplicates() -> Iterator[socket.socket]:
    for name in [entry.name for entry in _DESCRIPTORS.iterdir()]:
        try:
            duplicate = os.dup(int(name))
        except OSError:
            continue
        try:
            yield socket.socket(fileno=duplicate)
        except OSError:
            os.close(duplicate)


def _listens(candidate: socket.socket, ports: Collection[int]) -> bool:
    if candidate.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    listening = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return bool(listening) and candidate.getsockname()[1] in ports
