"""What the processes of a test did with the stand-in, as JSON lines in one folder, and the counts that they share."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from standin import settings

EVENTS_FILE = "events.jsonl"
ARMED_FILE = "armed"


@dataclass(frozen=True)
class Event:
    """One line of the journal.

    ``name`` is one of ``init``, ``open``, ``load``, ``run``, ``reset``, ``leak``, ``free``, ``unload``, ``finalize``,
    ``violation`` (``details["rule"]`` was broken, which the real packages would not have noticed or not survived) and
    ``end`` (the stand-in ended or froze the process, ``details["how"]``). ``thread`` is the kernel's thread id.
    """

    name: str
    pid: int
    thread: int
    details: dict[str, Any]


class Journal:
    """Writes events and draws numbers; does neither without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def record(self, name: str, **details: object) -> None:
        """Append one event. A single write in append mode is never torn by those of other processes."""
        if self.folder is None:
            return
        event = {"name": name, "pid": os.getpid(), "thread": threading.get_native_id(), "details": details}
        line = json.dumps(event).encode() + b"\n"
        try:
            descriptor = os.open(self.folder / EVENTS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except FileNotFoundError:
            return  # the test is over and its folder gone
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def draw(self, counter: str) -> int:
        """The next number of a counter, from 1, over all processes that share the folder."""
        if self.folder is None:
            raise ValueError("counting over several processes needs the setting 'state'")
        descriptor = os.open(self.folder / f"count-{counter}", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            number = int(os.pread(descriptor, 20, 0) or b"0") + 1
            os.pwrite(descriptor, b"%d" % number, 0)
        finally:
            os.close(descriptor)
        return number

    def is_armed(self) -> bool:
        """Whether a test has called ``arm`` for this folder."""
        return self.folder is not None and (self.folder / ARMED_FILE).exists()


@cache
def journal() -> Journal:
    """The journal of this process."""
    return Journal(settings.current().state_folder)


def arm(state: Path) -> None:
    """Let the faults of processes that were started with ``armed="later"`` be counted from now on."""
    (state / ARMED_FILE).touch()


def read_events(state: Path, name: str | None = None) -> list[Event]:
    """All events so far in their order, or those of one name; a line that is just being written is left out."""
    path = state / EVENTS_FILE
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    events = [Event(**json.loads(line)) for line in lines]
    return [event for event in events if name in (None, event.name)]
