"""Explanations of atc's errors, with what to do: CANN's codes name the part that failed, seldom the cause.

Codes and texts are those of the vendor's list of error codes (hiascend.com, CANN troubleshooting, "Error Codes") and of
the graph engine's published source, where not said otherwise. Their numbers differ between versions of CANN, so a
failure may have several.
"""

from __future__ import annotations

import re
import signal
from typing import NamedTuple

_CODE_LINE = re.compile(r"^\s*(E[0-9A-Z]\d{4}: .+)$", re.MULTILINE)
_MAX_QUOTED = 300
_MEMORY = (
    "the machine ran out of memory: stop other work, and set TE_PARALLEL_COMPILER=1, which lets atc compile one "
    "operator at a time instead of eight"
)


class Failure(NamedTuple):
    """A way to fail: a regular expression for a part of a line of the log, and what to do."""

    pattern: str
    advice: str


FAILURES = (
    # Causes outside the model come first: codes that only report their consequences follow.
    Failure(
        # The loader's text. The vendor's guide to atc has a machine without a driver use the libraries in devlib.
        r"libascend_hal\.so: cannot open shared object file",
        "this machine has no driver: to compile all the same, source set_env.sh and add CANN's substitutes for it, "
        "export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$ASCEND_TOOLKIT_HOME/$(arch)-linux/devlib",
    ),
    Failure(
        r"cannot open shared object file",
        "a library of CANN was not found: source its set_env.sh anew, or name another installation with --cann",
    ),
    Failure(
        # Users' reports of CANN 8 with NumPy 2 (code EC0010 or E40020).
        r"`?np\.float_`? was removed",
        "this CANN needs NumPy 1: pip install 'numpy<2' for the python3 that atc finds in PATH",
    ),
    Failure(
        r"E40002: ",
        "CANN does not work with the python3 that atc finds in PATH: put one of the versions that it names first",
    ),
    Failure(
        # Users' reports of CANN 8.1 with Python 3.11 and newer.
        r"cannot pickle 'FrameLocalsProxy' object",
        "CANN does not work with the python3 that atc finds in PATH: put an older one first, such as 3.10",
    ),
    Failure(
        # E40020, and E40001 up to CANN 7.0; users of 8.0 report EC0010.
        r"Failed to import (the )?Python module|ModuleNotFoundError: ",
        "a Python package that CANN needs is missing from the python3 that atc finds in PATH: install it there; CANN's "
        "installation guide lists them all",
    ),
    Failure(r"E40024: ", "CANN's Python part does not work: source its set_env.sh anew, or reinstall the toolkit"),
    Failure(r"std::bad_alloc|Cannot allocate memory|MemoryError", _MEMORY),
    Failure(r"No space left on device", "the disk is full"),
    Failure(
        # Users report E20002 where nnrt's set_env.sh was sourced last; other parts of CANN have their own codes for it.
        r"(E20002|E13024|E40001): .*environment variable",
        "a variable of CANN's is wrong: source the toolkit's set_env.sh, not that of nnrt, in a new shell",
    ),
    Failure(
        # Users' reports: atc does not know its own system where its folders are not in the environment.
        r"E10001: .*host.env.(os|cpu)",
        "atc does not find its own files: source set_env.sh, or name CANN's folder with --cann",
    ),
    Failure(
        # EE1001 is the runtime's "argument is invalid", EE1000 its form in CANN 5.0.
        r"EE100[01]: .*[Ss]o[Cc] version|soc_version\]? is invalid",
        "this CANN does not know the chip given with --soc-version: its name is Ascend and the Name that npu-smi info "
        "shows, such as Ascend310P3; a newer chip needs a newer CANN",
    ),
    Failure(
        r"E10016: ",
        "the model has no input of this name: was the ONNX file changed meanwhile?",
    ),
    Failure(
        r"(E10002|E10011|E10049|E11005): |E10001: .*input_shape",
        "atc does not accept the input's shape: was the ONNX file changed meanwhile?",
    ),
    Failure(
        r"(E10012|E10018|E10031|E10035|E10036|E10039|E10040): ",
        "atc does not accept these gears: try fewer or smaller ones, or --batch-sizes",
    ),
    Failure(r"(E10052|E10034|E70014): ", "atc does not accept the AIPP file, which --dry-run shows"),
    Failure(
        r"(E10041|E13005|E16004): ",
        "atc cannot read the model: it must be a whole ONNX file, with its weights beside it if they are in another",
    ),
    Failure(
        # E19010 is the older form; its text names the opset, as in ai.onnx::23::Div.
        r"(E16002|E19010|E13010|E76002|E10501|EZ0501|EZ9010): ",
        "this CANN knows no operator of that type or of that opset: convert with repserve convert pth2onnx --opset 11, "
        "or install a newer CANN",
    ),
    Failure(
        r"EZ300[23]: ",
        "the chip or this CANN does not support that operator: install a newer CANN with its operators (the package "
        "kernels or ops of this chip), or convert with repserve convert pth2onnx",
    ),
    Failure(
        r"(E40021|E20001): ",
        "an operator could not be compiled: the log has the reason, often a Python package or compiler of CANN's that "
        "does not work; try another --precision-mode or a newer CANN",
    ),
    Failure(r"[Pp]ermission denied", "the user must be allowed to read the model and CANN, and to write the folder"),
    Failure(
        r"E(10001|10003|10014|10061|10055|13026): ",
        "atc does not accept one of its parameters",
    ),
    Failure(
        # EZ9999 is, in the operator compiler's source, the code for one of its processes that died.
        r"(E19999|E49999|EZ9999): ",
        "an error inside CANN: the log's last lines are nearest to the cause; ASCEND_SLOG_PRINT_TO_STDOUT=1 prints "
        "more, and ~/ascend/log has the rest",
    ),
)
"""In the order of search."""


def explain_failure(status: int, log: str) -> str:
    """Explain in one line why atc failed.

    Args:
        status: exit status, or minus the signal that ended it.
        log: what it printed.

    Returns:
        The meaning of the first known failure in the log, with its line; otherwise atc's own first error.
    """
    # atc starts the compiler, atc.bin; where a shell does, a signal is reported as 128 and its number.
    ended_by = -status if status < 0 else status - 128
    if ended_by == signal.SIGKILL:
        return f"it was killed, as the kernel does when memory is short; if so: {_MEMORY}"
    for pattern, advice in FAILURES:
        if found := re.search(rf"^.*({pattern}).*$", log, re.MULTILINE):
            return f"{advice}; atc says: {found[0].strip()[:_MAX_QUOTED]}"
    code = _CODE_LINE.search(log)
    if code is not None:
        return f"atc says: {code[1].strip()[:_MAX_QUOTED]}"
    if ended_by in signal.valid_signals():
        return "it crashed; its log is above"
    return "its log above may say why"
