from __future__ import annotations

import re
import signal

import pytest

from repserve_convert.atc_failures import FAILURES, explain_failure

START = "ATC start working now, please wait for a moment.\n...\n"
FAILED = START + "ATC run failed, Please check the detail log, Try 'atc --help' for more information\n"
TRACE = "        Solution: N/A\n        TraceBack (most recent call last):\n        E19999: Inner Error!\n"

SEEN = [
    ("atc.bin: error while loading shared libraries: libascend_hal.so: cannot open shared object file", "devlib"),
    ("atc.bin: error while loading shared libraries: libge.so: cannot open shared object file", "set_env.sh anew"),
    ("EC0010: Failed to import Python module [AttributeError: `np.float_` was removed in NumPy 2.0.].", "'numpy<2'"),
    ("E40002: The current Python version is [Python 3.6.9]. The system supports only [Python 3.7].", "python3"),
    ("TypeError: cannot pickle 'FrameLocalsProxy' object", "an older one first"),
    ("EC0010: Failed to import Python module [ModuleNotFoundError: No module named 'sympy'.].", "Python package"),
    ("E40020: Failed to import Python module [sympy] and Reason is [No module named 'sympy'].", "Python package"),
    ("E40001: Failed to import the Python module: [te]", "Python package"),
    ("E40024: Failed to call Python Method x. Reason: y.", "CANN's Python part"),
    ("terminate called after throwing an instance of 'std::bad_alloc'", "TE_PARALLEL_COMPILER=1"),
    ("OSError: [Errno 28] No space left on device", "the disk is full"),
    (
        "E20002: Value [/x/nnrt/opp/] for environment variable [ASCEND_OPP_PATH] is invalid when load",
        "not that of nnrt",
    ),
    ("E10001: Value [linux] for parameter [--host_env_os] is invalid. Reason: os not supported", "its own files"),
    ("EE1001: The argument is invalid.Reason: Soc version [Ascend310B4] is invalid", "such as Ascend310P3"),
    ("EE1000: Value Ascend9 is invalid for the SoC version. Valid values are: Ascend310", "such as Ascend310P3"),
    (
        "EC0005: Value [Ascend9] for parameter [--soc_version] is invalid or the config.json is not",
        "such as Ascend310P3",
    ),
    ("E10016: Opname [image] specified in [--input_shape] is not found in the model.", "no input of this name"),
    ("E10001: Value [-1] for parameter [x] is invalid. Reason: maybe you should set input_shape", "the input's shape"),
    ("E10049: Dimension count 3 configured in --input_shape does not match dimension count 4", "the input's shape"),
    ("E10036: --dynamic_batch_size has 101 profiles, which is greater than the maximum 100.", "fewer or smaller"),
    ("E10052: AIPP configuration is invalid. Reason: src_image_size_w.", "the AIPP file"),
    ("E10041: Failed to load the model from x.onnx.", "a whole ONNX file"),
    ("E19010: No parser is registered for Op [div, optype [ai.onnx::23::Div]].", "--opset 11"),
    ("EZ9010: No parser is registered for Op [div, optype [ai.onnx::23::Div]].", "--opset 11"),
    ("EZ3003: No supported Ops kernel and engine are found for [AddDsl], optype [AddDsl].", "does not support"),
    ("EZ3002: Optype [Conv2D] of Ops kernel [AIcoreEngine] is unsupported. Reason: x.", "does not support"),
    ("E40021: Failed to compile Op [Index2]. (oppath: [x], optype: [y])", "could not be compiled"),
    ("/usr/local/Ascend/opp: Permission denied", "must be allowed"),
    ("E10001: Value [x] for parameter [--precision_mode] is invalid.", "one of its parameters"),
    ("EZ9999: Inner Error!", "an error inside CANN"),
]


@pytest.mark.parametrize(("line", "advice"), SEEN, ids=[line[:30] for line, _ in SEEN])
def test_each_known_failure_is_explained_and_quoted(line: str, advice: str) -> None:
    """Also where codes that only report the consequences follow."""
    explained = explain_failure(255, FAILED + line + "\n" + TRACE)
    assert advice in explained
    assert explained.endswith(f"atc says: {line}")
    assert "\n" not in explained


def test_every_entry_of_the_table_has_been_seen() -> None:
    used = set()
    for line, _ in SEEN:
        used.add(next(index for index, (pattern, _) in enumerate(FAILURES) if re.search(pattern, line)))
    assert used == set(range(len(FAILURES)))


def test_an_unknown_code_is_quoted() -> None:
    log = FAILED + "E77777: [PID: 1] Something new.\n        E88888: behind it\n"
    assert explain_failure(255, log) == "atc says: E77777: [PID: 1] Something new."


@pytest.mark.parametrize("status", [-signal.SIGKILL, 128 + signal.SIGKILL])
def test_a_kill_is_explained_by_memory_even_with_another_error_in_the_log(status: int) -> None:
    assert "TE_PARALLEL_COMPILER=1" in explain_failure(status, FAILED + "E19999: Inner Error!\n")


def test_nothing_is_made_up_where_nothing_is_known() -> None:
    for status in (-signal.SIGSEGV, 128 + signal.SIGSEGV):
        assert explain_failure(status, START) == "it crashed; its log is above"
    assert explain_failure(1, START) == "its log above may say why"


def test_a_long_line_is_cut() -> None:
    assert len(explain_failure(255, "E19999: " + "x" * 5000)) < 600
