"""Explanations of what went wrong on an NPU, with what to install or check.

The vendor's exceptions read ``[code][text] ``; the text is often "unknown", and the true cause is only in what its
libraries print, so only the code is read.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from repserve_server.ascend.packages import describe_import_error

LOG_HINT = "ACL's own lines are in this worker's log, and in ~/ascend/log"
_CODE = re.compile(r"\[(-?\d+)\]")
_LOAD_ADVICE = {
    1: "the file is damaged, was compiled for another chip, or does not fit into the device's free memory: compare "
    "chip and memory in `npu-smi info` with the --soc-version given to `repserve convert onnx2om` and the file's size",
    2: "the device has no memory left: `npu-smi info` shows who uses it",
    100001: "ACL was shut down in this process: start a new one",
    107001: "there is no such device: `npu-smi info` lists them; ASCEND_RT_VISIBLE_DEVICES renumbers them from 0",
    507033: "the device cannot be opened: it is busy, lost, or held by another container; `npu-smi info` shows its "
    "health and its processes",
}
"""By the code of the error; sources: aclruntime's own codes, and the FAQ of ais_bench for 507033."""


def error_code(error: BaseException) -> int | None:
    """Return the code at the start of the vendor's message, if there is one."""
    found = _CODE.match(str(error))
    return int(found[1]) if found else None


def explain_load_error(file: Path, device: int, error: BaseException) -> str:
    """Explain why a model was not loaded, and what to check."""
    usual = f"`repserve doctor --device npu:{device}` checks the usual causes"
    advice = _LOAD_ADVICE.get(error_code(error) or 0, usual)
    if _others_may_write(file):
        advice += "; besides, the newest aclruntime refuses files that others than their owner may write: chmod go-w"
    return f"npu:{device} cannot load {file} ({str(error).strip()}): {advice}; {LOG_HINT}"


def _others_may_write(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    except OSError:
        return False


def explain_import_error(error: ImportError) -> str:
    """Explain why ``aclruntime`` or ``ais_bench`` cannot be imported, and what to install."""
    outcome = describe_import_error(error)
    return f"{outcome.found}; {outcome.advice}"
