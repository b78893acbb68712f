"""Runs of atc, CANN's compiler: its command line as in the guide, its log as it is written, and a time limit."""

from __future__ import annotations

import codecs
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from repserve_convert.aipp import AIPP_NAME
from repserve_convert.atc_failures import explain_failure
from repserve_convert.cann import Cann
from repserve_convert.errors import ConversionError
from repserve_convert.onnx_input import OnnxInput

SUCCESS = "ATC run success, welcome to the next use."
DEFAULT_PRECISION_MODE = "force_fp16"
"""atc's own default on inference chips."""
PRECISION_MODES = (
    DEFAULT_PRECISION_MODE,
    "allow_fp32_to_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision",
    "force_fp32",
)
LOG_CHARACTERS = 1_000_000
"""How much of the end of the log is kept to search it for reasons."""
_LOOK_SECONDS = 0.1
_KILL_SECONDS = 10.0
_IN_DOUBLE_QUOTES = re.compile(r"[\w.:,;/~-]*")


@dataclass(frozen=True)
class Target:
    """An .om to compile.

    Attributes:
        batch_sizes: its one size, or its gears.
    """

    batch_sizes: tuple[int, ...]

    @property
    def stem(self) -> str:
        """The file's name without its suffix, which atc appends."""
        return f"model_bs{self.batch_sizes[0]}" if len(self.batch_sizes) == 1 else "model_gears"

    @property
    def file(self) -> str:
        """The file's name."""
        return f"{self.stem}.om"


@dataclass(frozen=True)
class AtcOptions:
    """The options of all targets: source, its input, the image's side in pixels, chip, arithmetic, and use of AIPP."""

    source: Path
    image: OnnxInput
    side: int
    soc_version: str
    precision_mode: str = DEFAULT_PRECISION_MODE
    aipp: bool = False


def atc_arguments(options: AtcOptions, target: Target) -> list[str]:
    """Return the command for a target in the guide's form, to be run in the folder of the file.

    A model that takes NHWC is compiled with input_format=ND, which leaves the layout to the graph: for ONNX models atc
    supports NCHW, NCDHW and ND only (its reference, --input_format).
    """
    gears = len(target.batch_sizes) > 1
    shape = options.image.shape(-1 if gears else target.batch_sizes[0], options.side)
    return [
        "atc",
        "--framework=5",
        f"--model={options.source}",
        f"--output={target.stem}",
        f"--input_format={'ND' if options.image.uint8 else 'NCHW'}",
        f"--input_shape={options.image.name}:{','.join(map(str, shape))}",
        *([f"--dynamic_batch_size={','.join(map(str, target.batch_sizes))}"] if gears else []),
        *([f"--insert_op_conf={AIPP_NAME}"] if options.aipp else []),
        "--log=error",
        f"--soc_version={options.soc_version}",
        *([f"--precision_mode={options.precision_mode}"] if options.precision_mode != DEFAULT_PRECISION_MODE else []),
    ]


def shell_form(arguments: Sequence[str]) -> str:
    """Write the command for a shell, with double quotes where the guide has them."""
    words = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in ("--input_shape", "--dynamic_batch_size") and _IN_DOUBLE_QUOTES.fullmatch(value):
            words.append(f'{name}="{value}"')
        else:
            words.append(shlex.quote(argument))
    return " ".join(words)


def compile_target(
    cann: Cann,
    arguments: Sequence[str],
    target: Target,
    folder: Path,
    *,
    time_limit: float,
    write: Callable[[str], None],
) -> Path:
    """Run atc in a folder, to the end or until its time is up.

    Args:
        cann: which atc, and its environment.
        arguments: of ``atc_arguments`` for the same target.
        target: the file to make.
        folder: the working folder of atc, which leaves other files there too.
        time_limit: seconds that it may take.
        write: called with each piece of the log.

    Returns:
        The compiled file.

    Raises:
        ConversionError: atc failed, or took too long; the message explains it as far as possible.
    """
    status, log = _run([str(cann.atc), *arguments[1:]], cann, folder, time_limit, write)
    file = folder / target.file
    if status is None:
        raise ConversionError(
            f"atc had not compiled {target.file} after {time_limit:g} s and was killed: give it more time with "
            "--time-limit, or a machine with more free memory and cores"
        )
    if status != 0 or SUCCESS not in log:
        ended = f"signal {-status}" if status < 0 else f"exit status {status}"
        raise ConversionError(f"atc did not compile {target.file} ({ended}): {explain_failure(status, log)}")
    if not file.is_file():
        # atc adds system and processor to the name of a model that runs on no other (its reference, --output).
        named = list(folder.glob(f"{target.stem}_*.om"))
        if len(named) != 1:
            raise ConversionError(f"atc reports success, but wrote no {target.file}: its log above may say why")
        named[0].replace(file)
    return file


def _run(
    command: Sequence[str], cann: Cann, folder: Path, time_limit: float, write: Callable[[str], None]
) -> tuple[int | None, str]:
    """Return the exit status, None if the time was up, and the end of the log."""
    log, ended = "", False
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    deadline = time.monotonic() + time_limit
    # A file, since the end of a pipe may not come: a compiler that atc left behind may hold it open.
    with tempfile.NamedTemporaryFile() as output, Path(output.name).open("rb") as printed:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(cann.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A process group, since atc compiles operators in child processes, which must end with it.
            start_new_session=True,
        )
        try:
            while not ended and time.monotonic() < deadline:
                ended = _has_ended(process)  # first, so that what it printed at the end is read
                text = decoder.decode(printed.read(), final=ended)
                write(text)
                log = (log + text)[-LOG_CHARACTERS:]
                if not ended:
                    time.sleep(_LOOK_SECONDS)
            if not log.endswith("\n"):
                write("\n")  # atc's dots, where it ends while it works
        finally:
            # The process id stays taken until the process is waited for, so the group is still atc's.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_KILL_SECONDS)
    return (process.returncode if ended else None), log


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has ended, without reaping it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
