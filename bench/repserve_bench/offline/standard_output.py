"""Standard output for this command's own lines: the vendor's libraries print there from C."""

from __future__ import annotations

import os
import sys


def keep_standard_output() -> None:
    """Give descriptor 1 to standard error, and Python's ``sys.stdout`` a descriptor of its own.

    For the rest of the process: what a C library has buffered it may print at the very end. Does nothing where
    ``sys.stdout`` is not the process's own.
    """
    stream = sys.__stdout__
    if stream is None or sys.stdout is not stream:
        return
    stream.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(own, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
