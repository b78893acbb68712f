"""What ``ais_bench`` checks in Python, before it goes to aclruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from standin import settings
from standin.session import MAX_LOOP, WRITABLE_BY_OTHERS
from standin.tensor import DEVICE_IDS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def as_array(feed: object) -> NDArray[Any]:
    """An array as it is, a numpy scalar as an array.

    Raises:
        RuntimeError: for anything else, in T and A also for a subclass of ndarray such as a memmap.
    """
    if isinstance(feed, np.number):
        return np.asarray(feed)
    if isinstance(feed, np.ndarray) and (type(feed) is np.ndarray or settings.current().generation == "N"):
        return feed
    raise RuntimeError(f"type:{type(feed)} invalid")


def check_session(device_id: object, model_path: str, loop: object) -> None:
    """What generation N checks when a session is made; raises TypeError or ValueError."""
    if not isinstance(device_id, int):
        raise TypeError(f"device:{device_id} is not a integer!")
    if not 0 <= device_id < DEVICE_IDS:
        raise ValueError(f"device:{device_id} is illegal. legal value range is [0, {DEVICE_IDS - 1}]")
    if not isinstance(loop, int):
        raise TypeError(f"value:{loop} is not a integer!")
    if not 0 < loop <= MAX_LOOP:
        raise ValueError(f"input value:{loop} is out of range. Please check.")
    path = Path(model_path)
    if not path.is_file():
        raise ValueError(f"The path:{model_path} is not a file.")
    if path.is_symlink() or path.stat().st_mode & WRITABLE_BY_OTHERS:
        raise ValueError(f"The path:{model_path} is illegal. Please check the error log for more detail.")
    if path.suffix != ".om":
        raise ValueError(f"The suffix of path:{model_path} not in ['om']. Please check.")
