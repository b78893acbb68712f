"""A stand-in for atc, CANN's compiler: refuses what the real one refuses, and writes .om files of the stand-in runtime.

Texts are those of the vendor's list of error codes and of logs that users published; the rules are those of its
reference. ``STANDIN_ATC_FAULT`` makes it fail on command: the name of one of ``FAULTS`` or ``ENDINGS``, and where only
one output is to fail, ``@`` and its stem, as in ``crash@model_bs16``. ``STANDIN_ATC_PIDS`` names a file that gets the
process ids of those that hang.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from repserve_server.imaging.preprocessing import Preprocessing

CHIPS = ("Ascend310", "Ascend310P1", "Ascend310P3", "Ascend910A")
KNOWN = (
    *("framework", "model", "output", "input_format", "input_shape", "dynamic_batch_size", "insert_op_conf", "log"),
    *("soc_version", "precision_mode"),
)
PRECISION_MODES = ("force_fp16", "allow_fp32_to_fp16", "must_keep_origin_dtype", "allow_mix_precision", "force_fp32")
FAILED = 255

FAULTS = {
    "unsupported": "EZ3003: No supported Ops kernel and engine are found for [Conv_0], optype [Conv2D].",
    "module": "EC0010: [PID: 129520] 2025-07-08-10:25:28.680.962 Failed to import Python module "
    "[ModuleNotFoundError: No module named 'decorator'.].",
    "inner": "E19999: Inner Error!\n        Unknown error occurred. Please check the log.",
}
"""Errors that atc prints."""
ENDINGS = ("hang", "crash", "killed", "silent", "mute", "status", "leftover", "suffixed")
"""Other ways to end: never, by a signal, without a file, without the line on success, with a status other than 0, with
a process left behind, with the system in the file's name."""


class RefusedError(Exception):
    """What atc prints, code first."""


def install_atc(folder: Path) -> Path:
    """Write an executable ``atc`` into a folder; it runs this module."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "atc"
    tests = shlex.quote(str(Path(__file__).resolve().parents[1]))
    python_path = f'PYTHONPATH={tests}"${{PYTHONPATH:+:$PYTHONPATH}}"'
    script.write_text(f'#!/bin/sh\n{python_path} exec {shlex.quote(sys.executable)} {shlex.quote(__file__)} "$@"\n')
    script.chmod(0o755)
    return script


def main(arguments: list[str]) -> int:
    _print("ATC start working now, please wait for a moment.\n...")
    try:
        options = _read_options(arguments)
        ending = _fail_on_command(Path(options.get("output", "")).name)
        _compile(options, ending)
    except RefusedError as error:
        _print(f"\nATC run failed, Please check the detail log, Try 'atc --help' for more information\n{error}\n")
        return FAILED
    _print("\n" if ending == "mute" else "\nATC run success, welcome to the next use.\n")
    return FAILED if ending == "status" else 0


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _read_options(arguments: list[str]) -> dict[str, str]:
    options = {}
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not equals or name not in KNOWN:
            raise RefusedError(f"E10059: Parse flags failed. Reason: unknown command line flag {argument!r}.")
        options[name] = value
    return options


def _fail_on_command(stem: str) -> str:
    fault, _, where = os.environ.get("STANDIN_ATC_FAULT", "").partition("@")
    if not fault or (where and where != stem):
        return ""
    if fault in FAULTS:
        raise RefusedError(FAULTS[fault])
    if fault == "hang":
        _hang()
    if fault in ("crash", "killed"):
        os.kill(os.getpid(), signal.SIGSEGV if fault == "crash" else signal.SIGKILL)
    if fault not in ENDINGS:
        raise AssertionError(f"no such fault: {fault}")
    if fault == "leftover":
        _start_compiler()
    return fault


def _start_compiler() -> subprocess.Popen[bytes]:
    """A process that waits for ever, as atc's compilers do for work; it has atc's standard output."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    with Path(os.environ["STANDIN_ATC_PIDS"]).open("a", encoding="utf-8") as file:
        file.write(f"{process.pid}\n")
    return process


def _hang() -> None:
    _start_compiler()
    with Path(os.environ["STANDIN_ATC_PIDS"]).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    while True:
        signal.pause()


def _compile(options: Mapping[str, str], ending: str) -> None:
    from support.standin_models import write_om

    for name in ("soc_version", "output", "model"):
        if not options.get(name):
            raise RefusedError(f"E10054: The required parameter [--{name}] for ATC is empty.")
    model, output = Path(options["model"]), Path(options["output"])
    if not model.is_file():
        raise RefusedError(
            f"E10001: Value [{model}] for parameter [--model] is invalid. Reason: the path is not there."
        )
    if options.get("framework") != "5":
        raise RefusedError("E10007: [--framework] is required. The value must be [... 5(Onnx)].")
    if options.get("precision_mode", PRECISION_MODES[0]) not in PRECISION_MODES:
        raise RefusedError(f"E10001: Value [{options['precision_mode']}] for parameter [--precision_mode] is invalid.")
    name, shape = _read_shape(options["input_shape"])
    gears = _read_gears(options.get("dynamic_batch_size"), shape)
    if options.get("input_format", "NCHW") not in ("NCHW", "ND", "NCDHW"):
        raise RefusedError(
            f"E10001: Value [{options['input_format']}] for parameter [--input_format] is invalid. Reason: The value "
            "must be NCHW, ND or NCDHW in ONNX model."
        )
    if options["soc_version"] not in CHIPS:
        raise RefusedError(f"EE1001: The argument is invalid.Reason: Soc version [{options['soc_version']}] is invalid")
    _check_model(model, name, shape)
    aipp = _read_aipp(options, shape) if "insert_op_conf" in options else None
    sizes = gears or (shape[0],)
    if ending != "silent":
        suffix = "_linux_x86_64" if ending == "suffixed" else ""
        path = output.with_name(f"{output.name}{suffix}.om")
        chip = options["soc_version"]
        write_om(path, model, batch_sizes=sizes, gears=bool(gears), aipp=aipp, soc_version=chip, side=shape[2])
        path.chmod(0o600)
    Path("kernel_meta").mkdir(exist_ok=True)
    Path("fusion_result.json").write_text("[]")


def _read_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition(":")
    if not name or not re.fullmatch(r"-?\d+(,-?\d+)*", sizes):
        raise RefusedError(f"E10002: Value {text} for parameter --input_shape is invalid.")
    return name, tuple(map(int, sizes.split(",")))


def _read_gears(text: str | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    if text is None:
        if min(shape) < 1:
            raise RefusedError(f"E10011: Value {shape} for parameter --input_shape is invalid.")
        return ()
    if shape[0] != -1:
        raise RefusedError(
            "E10031: --dynamic_batch_size is included, but none of the nodes specified in --input_shape has a batch "
            "size equaling -1."
        )
    if min(shape[1:]) < 1:
        raise RefusedError("E10018: Value -1 for shape is invalid.")
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise RefusedError(f"E10003: Value {text} for parameter --dynamic_batch_size is invalid.")
    gears = tuple(map(int, text.split(",")))
    if len(gears) < 2:
        raise RefusedError(f"E10035: --dynamic_batch_size has {len(gears)} profiles, which is less than the minimum 2.")
    if len(gears) > 100:
        raise RefusedError(f"E10036: --dynamic_batch_size has {len(gears)} profiles, which is greater than 100.")
    if len(set(gears)) < len(gears):
        raise RefusedError("E10039: The --dynamic_batch_size argument has duplicate profiles.")
    return gears


def _check_model(path: Path, name: str, shape: tuple[int, ...]) -> None:
    import onnx

    graph = onnx.load(path).graph
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    if name not in inputs:
        raise RefusedError(
            f"E10016: Opname [{name}] specified in [--input_shape] is not found in the model. Confirm whether this "
            "node name exists, or the node is not split with the specified delimiter ';'."
        )
    if len(shape) != len(inputs[name]):
        raise RefusedError(f"E10049: Dimension count {len(shape)} configured in --input_shape does not match.")
    if any(size not in (0, given) for size, given in zip((d.dim_value for d in inputs[name]), shape, strict=True)):
        raise RefusedError("E19999: Inner Error!\n        Call InferShapeAndType for node:Conv_0(Conv2D) failed")


def _read_aipp(options: Mapping[str, str], shape: tuple[int, ...]) -> Preprocessing:
    """The normalisation that an AIPP file asks for."""
    from repserve_server.imaging.preprocessing import Preprocessing

    if options.get("input_format", "NCHW") != "NCHW":
        raise RefusedError("E10052: AIPP configuration is invalid. Reason: the data format must be NCHW or NHWC.")
    text = Path(options["insert_op_conf"]).read_text(encoding="utf-8")
    keys = dict(re.findall(r"^\s*(\w+)\s*:\s*(\S+)", text, re.MULTILINE))
    size = (int(keys["src_image_size_h"]), int(keys["src_image_size_w"]))
    if not text.startswith("aipp_op {") or keys["aipp_mode"] != "static" or keys["input_format"] != "RGB888_U8":
        raise RefusedError("E10052: AIPP configuration is invalid. Reason: the stand-in knows static RGB888_U8 only.")
    if size != shape[2:]:
        raise RefusedError(f"E70014: In op[aipp], aipp output H and W should be equal to data's H and W, got {size}.")
    low = [float(keys[f"min_chn_{channel}"]) for channel in range(3)]
    if not all(0 <= value <= 255 for value in low):
        raise RefusedError("E10052: AIPP configuration is invalid. Reason: min_chn is out of 0 to 255.")
    factors = [float(keys[f"var_reci_chn_{channel}"]) for channel in range(3)]
    mean, std = (value / 255 for value in low), (1 / (255 * factor) for factor in factors)
    return Preprocessing(resize=max(256, size[0]), crop=size[0], mean=tuple(mean), std=tuple(std))  # type: ignore[arg-type]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
