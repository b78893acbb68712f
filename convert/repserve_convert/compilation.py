"""Compilation of an ONNX model for an Ascend chip: the checks before, the runs of atc, and the resulting files."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from repserve_convert.aipp import AIPP_NAME, aipp_text
from repserve_convert.atc import AtcOptions, Target, atc_arguments, compile_target, shell_form
from repserve_convert.cann import Cann
from repserve_convert.errors import ConversionError
from repserve_convert.onnx_input import read_onnx_input
from repserve_convert.version_folder import (
    check_config,
    check_version_folder,
    config_text,
    install,
    own_models,
    staging,
)
from repserve_server.files import sha256
from repserve_server.repository.compiled import COMPILED_NAME, CompiledFolder, CompiledModel, write_compiled
from repserve_server.repository.config import CONFIG_NAME, ModelConfig
from repserve_server.repository.model_files import ONNX_NAME
from repserve_server.repository.weights_note import WEIGHTS_NOTE

PRECISIONS = {"force_fp16": "fp16", "force_fp32": "fp32"}
"""Names of the arithmetic where the mode leaves atc no choice; other modes keep their own."""
_FILE_MODE = 0o644
_REFUSED_BY_ATC = re.compile(r"[\s'\",:;&|<>()\[\]{}$`\\]")
"""Some of the characters that atc refuses in paths (CheckInputPathValid in the graph engine's published source)."""


@dataclass(frozen=True)
class Compilation:
    """A checked plan of what to compile, and where to.

    Attributes:
        options: those of all runs of atc.
        targets: the files to make.
        folder: the version's, absolute.
        config: model.toml, as it is or will be written.
        aipp_text: the AIPP file; empty without AIPP.
    """

    options: AtcOptions
    targets: tuple[Target, ...]
    folder: Path
    config: ModelConfig
    aipp_text: str

    @property
    def commands(self) -> tuple[list[str], ...]:
        """The arguments of atc for each target."""
        return tuple(atc_arguments(self.options, target) for target in self.targets)


def plan_compilation(
    source: Path, targets: Sequence[Target], folder: Path, *, soc_version: str, precision_mode: str, aipp: bool
) -> Compilation:
    """Check a model and its options before atc runs, which takes minutes.

    Raises:
        ConversionError: the model, model.toml or the folder does not fit; the message says what to change.
    """
    # Not resolved: a link's own name is the version, and the note is beside the link.
    source, folder = (Path(os.path.abspath(path)) for path in (source, folder))  # noqa: PTH100
    image = read_onnx_input(source)
    for path in (source.resolve(), folder.parent.resolve()):
        if _REFUSED_BY_ATC.search(str(path)):
            raise ConversionError(
                f"atc refuses the path {str(path)!r}: use one of letters, digits, '.', '-' and '_' only"
            )
    if aipp and image.uint8:
        raise ConversionError(
            f"{source} takes uint8 pixels and normalises them itself: compile it without --aipp, which is for models "
            "that take float32"
        )
    if image.batch is not None and [target.batch_sizes for target in targets] != [(image.batch,)]:
        raise ConversionError(
            f"{source} has the fixed batch size {image.batch}: compile it with --batch-sizes {image.batch}, or export "
            "it with a free batch dimension"
        )
    check_version_folder(folder, [target.file for target in targets])
    config = check_config(folder.parent, image.side, max(max(target.batch_sizes) for target in targets))
    options = AtcOptions(source, image, config.preprocessing.crop, soc_version, precision_mode, aipp)
    text = aipp_text(config.preprocessing) if aipp else ""
    return Compilation(options, tuple(targets), folder, config, text)


def compile_into_folder(
    compilation: Compilation, cann: Cann, *, time_limit: float, write: Callable[[str], None]
) -> list[str]:
    """Compile all targets, and put them into the version's folder when every one has succeeded.

    Args:
        compilation: the plan.
        cann: which atc.
        time_limit: seconds for each run of it.
        write: called with the progress and atc's log.

    Returns:
        Lines that say what was written.

    Raises:
        ConversionError: atc failed; the folder is as it was.
    """
    source_sha256 = sha256(compilation.options.source)
    with staging(compilation.folder) as work:
        if compilation.options.aipp:
            (work / AIPP_NAME).write_text(compilation.aipp_text, encoding="utf-8")
        models = []
        for number, (target, command) in enumerate(zip(compilation.targets, compilation.commands, strict=True), 1):
            write(f"compiling {target.file} ({number} of {len(compilation.targets)}): {shell_form(command)}\n")
            begin = time.monotonic()
            file = compile_target(cann, command, target, work, time_limit=time_limit, write=write)
            file.chmod(_FILE_MODE)  # atc makes it readable by its own user only
            write(f"compiled {target.file}: {file.stat().st_size / 1e6:.1f} MB in {time.monotonic() - begin:.0f} s\n")
            models.append(
                CompiledModel(
                    file=target.file,
                    batch_sizes=target.batch_sizes,
                    aipp=compilation.options.aipp,
                    sha256=sha256(file),
                )
            )
        write_compiled(work, _describe(compilation, source_sha256, models, cann))
        return _install(compilation, work)


def _describe(
    compilation: Compilation, source_sha256: str, models: Sequence[CompiledModel], cann: Cann
) -> CompiledFolder:
    options = compilation.options
    return CompiledFolder(
        soc_version=options.soc_version,
        precision=PRECISIONS.get(options.precision_mode, options.precision_mode),
        source=options.source.name,
        source_sha256=source_sha256,
        preprocessing=compilation.config.preprocessing if options.aipp else None,
        models=tuple(models),
        commands=tuple(shell_form(command) for command in compilation.commands),
        atc_version=cann.version,
    )


def _install(compilation: Compilation, work: Path) -> list[str]:
    """Move the files into place; returns a message about each change."""
    folder, options = compilation.folder, compilation.options
    files = [target.file for target in compilation.targets]
    lines = [f"wrote {shown(folder)}: {', '.join(files)}, {COMPILED_NAME} ({options.soc_version})"]
    moves: dict[Path, Path] = {}
    if not (folder.parent / CONFIG_NAME).exists():
        text = config_text(compilation.config, f"{folder.parent.name}, compiled from {options.source.name}")
        (work / CONFIG_NAME).write_text(text, encoding="utf-8")
        moves[work / CONFIG_NAME] = folder.parent / CONFIG_NAME
        lines.append(f"wrote {shown(folder.parent / CONFIG_NAME)}")
    moves |= {work / name: folder / name for name in files}
    obsolete = [folder / name for name in sorted(own_models(folder) - set(files)) if (folder / name).exists()]
    if obsolete:
        lines.append(f"removed, obsolete: {', '.join(path.name for path in obsolete)}")
    lines += _carry_note(options.source.with_name(WEIGHTS_NOTE), folder / WEIGHTS_NOTE, work, moves, obsolete)
    moves[work / COMPILED_NAME] = folder / COMPILED_NAME
    install(moves, obsolete, work / "replaced")
    foreign = sorted(file.name for file in folder.glob("*.om") if file.name not in files)
    if foreign:
        lines.append(f"left alone: {', '.join(foreign)}, not made by this command; the server loads every .om")
    return lines


def _carry_note(its_note: Path, note: Path, work: Path, moves: dict[Path, Path], obsolete: list[Path]) -> Sequence[str]:
    """Let the note on random weights follow the model: add it to the moves, or to the obsolete files."""
    if its_note.is_file():
        if note.exists() and note.samefile(its_note):
            return []
        shutil.copyfile(its_note, work / WEIGHTS_NOTE)
        moves[work / WEIGHTS_NOTE] = note
        return [f"wrote {shown(note)}: the weights are random"]
    if not note.exists():
        return []
    if note.with_name(ONNX_NAME).exists():
        return [f"left alone: {shown(note)}, which describes another model, the {ONNX_NAME} there; remove both"]
    obsolete.append(note)
    return [f"removed {shown(note)}: it described random weights that were here"]


def shown(path: Path) -> str:
    """Format a path for messages: relative where it is below the working folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
