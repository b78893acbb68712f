"""Whether the driver's libraries are there, which importing either package needs."""

from __future__ import annotations

from standin.faults import faults


def open_driver() -> None:
    """Raise the ImportError of a machine without CANN where the fault ``no-driver`` says so."""
    if faults().has("no-driver"):
        raise ImportError("libascendcl.so: cannot open shared object file: No such file or directory")
