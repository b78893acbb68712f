"""``repserve convert onnx2om``: an ONNX model compiled for an Ascend chip, in a version's folder, ready to serve."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import click

from repserve_convert.aipp import AIPP_NAME
from repserve_convert.atc import DEFAULT_PRECISION_MODE, PRECISION_MODES, Target, shell_form
from repserve_convert.cann import find_cann, find_scripts
from repserve_convert.compilation import Compilation, compile_into_folder, plan_compilation, shown
from repserve_convert.errors import ConversionError, reported
from repserve_server.ascend.installation import ASCEND_FOLDER
from repserve_server.ascend.npu_smi import NpuSmiError, read_chips
from repserve_server.ascend.npu_smi import soc_version as chip_for_atc
from repserve_server.process import ended_by_signals

DEFAULT_BATCH_SIZES = (1, 16)
MAX_BATCH_SIZE = 2048
"""atc's limit of a gear (its reference, --dynamic_batch_size), as is the next."""
MAX_GEARS = 100
_PREFIX = re.compile("ascend", re.IGNORECASE)


def _read_sizes(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Parse the batch sizes of an option, ascending."""
    if value is None:
        return None
    words = [word.strip() for word in value.split(",")]
    if not all(re.fullmatch("[0-9]{1,4}", word) and 1 <= int(word) <= MAX_BATCH_SIZE for word in words):
        raise click.BadParameter(f"{value!r}: expected numbers of 1 to {MAX_BATCH_SIZE}, such as 1,16")
    sizes = sorted(map(int, words))
    if len(set(sizes)) < len(sizes):
        raise click.BadParameter(f"{value!r} names a size twice")
    return tuple(sizes)


@click.command()
@click.argument("source", metavar="MODEL.onnx", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--batch-sizes",
    metavar="SIZES",
    callback=_read_sizes,
    help="Batch sizes to compile, one file each.  [default: 1,16]",
)
@click.option(
    "--gears",
    metavar="SIZES",
    callback=_read_sizes,
    help="Instead, compile one file for several batch sizes, such as 1,2,4,8,16.",
)
@click.option("--aipp", is_flag=True, help="Take uint8 pixels and normalise them on the chip, as model.toml says.")
@click.option("--soc-version", "chip", help="Chip, such as Ascend310P3.  [default: this machine's, by npu-smi]")
@click.option(
    "--precision-mode",
    type=click.Choice(PRECISION_MODES),
    default=DEFAULT_PRECISION_MODE,
    show_default=True,
    help="Arithmetic, as atc names it.",
)
@click.option(
    "--into",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Version folder for the files, such as model_repo/repvgg_a0/1.",
)
@click.option(
    "--cann",
    "cann_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of CANN.  [default: atc in PATH, or the usual places]",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=3600,
    show_default=True,
    help="Seconds each run of atc may take.",
)
@click.option("--dry-run", is_flag=True, help="Only print the commands and the AIPP file.")
@reported
def onnx2om(
    source: Path,
    *,
    batch_sizes: tuple[int, ...] | None,
    gears: tuple[int, ...] | None,
    chip: str | None,
    precision_mode: str,
    folder: Path,
    cann_folder: Path | None,
    time_limit: float,
    aipp: bool,
    dry_run: bool,
) -> None:
    """Compile an ONNX model for an Ascend NPU with CANN's atc.

    Writes the .om files and compiled.json to the folder, and a model.toml if the model has none. If anything fails,
    nothing changes.
    """
    targets = _targets(batch_sizes, gears)
    compilation = plan_compilation(
        source, targets, folder, soc_version=_soc_version(chip), precision_mode=precision_mode, aipp=aipp
    )
    if dry_run:
        _print_commands(compilation, cann_folder)
        return
    cann = find_cann(cann_folder, os.environ)
    with ended_by_signals():
        lines = compile_into_folder(compilation, cann, time_limit=time_limit, write=_write)
    for line in (*lines, *_next_steps(compilation)):
        click.echo(line)


def _targets(batch_sizes: tuple[int, ...] | None, gears: tuple[int, ...] | None) -> list[Target]:
    if gears is None:
        return [Target((size,)) for size in batch_sizes or DEFAULT_BATCH_SIZES]
    if batch_sizes is not None:
        raise click.UsageError("--batch-sizes and --gears are mutually exclusive")
    if len(gears) == 1:
        raise click.UsageError(f"--gears {gears[0]} is one size: use --batch-sizes {gears[0]}")
    if len(gears) > MAX_GEARS:
        raise click.UsageError(f"--gears: got {len(gears)}, but atc takes at most {MAX_GEARS}")
    return [Target(gears)]


def _soc_version(chip: str | None) -> str:
    """Return the chip's name for atc, as given or of this machine."""
    if chip is not None:
        name = chip_for_atc(_PREFIX.sub("", chip, count=1) if _PREFIX.match(chip) else chip)
        if not re.fullmatch(r"Ascend\w+", name, re.ASCII):
            raise ConversionError(f"--soc-version {chip!r} is not a chip: expected a name such as Ascend310P3")
        return name
    try:
        names = sorted({chip_for_atc(chip.name) for chip in read_chips()})
    except NpuSmiError as error:
        raise ConversionError(f"{error}; name the chip with --soc-version, such as Ascend310P3") from error
    if len(names) != 1:
        found = ", ".join(names) or "no chip"
        raise ConversionError(f"npu-smi shows {found}: name the chip with --soc-version, such as Ascend310P3")
    return names[0]


def _print_commands(compilation: Compilation, cann_folder: Path | None) -> None:
    """Print a script that a shell can run as it is."""
    scripts = find_scripts(cann_folder, os.environ)
    if cann_folder is None and shutil.which("atc"):
        click.echo("# atc is in PATH")
    elif scripts:
        click.echo(f"source {shlex.quote(str(scripts[0]))}")
    else:
        click.echo(f"source {ASCEND_FOLDER}/ascend-toolkit/set_env.sh  # its usual place; not on this machine")
    folder = shlex.quote(shown(compilation.folder))
    click.echo(f"mkdir -p {folder}\ncd {folder}")
    if compilation.options.aipp:
        click.echo(f"cat > {AIPP_NAME} <<'END'\n{compilation.aipp_text}END")
    for command in compilation.commands:
        click.echo(shell_form(command))


def _write(text: str) -> None:
    click.echo(text, nl=False)


def _next_steps(compilation: Compilation) -> list[str]:
    model = compilation.folder.parent
    repository, labels = shlex.quote(shown(model.parent)), model / compilation.config.label_filename
    lines = [
        f"to serve it: repserve serve --model-repository {repository} --model {shlex.quote(model.name)} --device npu:0"
    ]
    if not labels.exists():
        lines.append(f"to name the classes: put one name per line, in order, into {shown(labels)}")
    return lines
