"""Checks of compiled models: each .om of a version against compiled.json, the machine's chips, and model.toml."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

from repserve_server.ascend.npu_smi import Chip, soc_version
from repserve_server.doctor.check import Check, Group, Status
from repserve_server.errors import RepositoryError
from repserve_server.files import sha256
from repserve_server.repository.compiled import COMPILED_NAME, CompiledFolder, CompiledModel, read_compiled
from repserve_server.repository.config import ModelConfig

_check = functools.partial(Check, Group.MODELS)


def check_compiled(
    version: Path, name: str, config: ModelConfig, max_batch_size: int, chips: tuple[Chip, ...]
) -> list[Check]:
    """Check one version folder.

    Args:
        version: the folder.
        name: its name in the report, such as ``repvgg_a0/1``.
        config: the model's model.toml.
        max_batch_size: the largest batch that the server would run.
        chips: the chips of this machine; empty where they are unknown.
    """
    files = sorted(file for file in version.iterdir() if file.suffix == ".om")
    compile_again = _compile_command(version, max_batch_size, chips)
    if not files:
        return [_check(name, Status.PROBLEM, "no .om model, and NPUs run nothing else", compile_again)]
    try:
        compiled = read_compiled(version)
    except RepositoryError as error:
        return [_check(f"{name}/{COMPILED_NAME}", Status.PROBLEM, str(error), compile_again)]
    if compiled is None:
        names = ", ".join(file.name for file in files)
        found = f"missing: neither the chip nor the normalisation of {names} can be checked"
        return [_check(f"{name}/{COMPILED_NAME}", Status.WARNING, found, f"{compile_again}, which writes it")]
    if compiled.preprocessing is not None:
        compile_again = _compile_command(version, max_batch_size, chips, " --aipp")
    written = {model.file: model for model in compiled.models}
    checks = [
        _check_folder(name, compiled, config, chips, compile_again),
        _check_sizes(
            name, [written[file.name] for file in files if file.name in written], max_batch_size, compile_again
        ),
        *(_check_file(f"{name}/{file.name}", file, written.get(file.name), compiled, compile_again) for file in files),
    ]
    missing = sorted(set(written) - {file.name for file in files})
    if missing:
        found = f"{COMPILED_NAME} names {', '.join(missing)}, which no longer exists"
        checks.append(_check(f"{name} files", Status.WARNING, found, compile_again))
    return checks


def _check_folder(
    name: str, compiled: CompiledFolder, config: ModelConfig, chips: tuple[Chip, ...], compile_again: str
) -> Check:
    """Check the chip, and the preprocessing that is compiled in."""
    name = f"{name}/{COMPILED_NAME}"
    present = sorted({soc_version(chip.name) for chip in chips})
    if present and compiled.soc_version not in present:
        found = f"compiled for {compiled.soc_version}, and this machine has {', '.join(present)}"
        return _check(name, Status.PROBLEM, found, compile_again)
    inside, wanted = compiled.preprocessing, config.preprocessing
    if inside is not None:
        for key in ("crop", "mean", "std"):
            here, there = getattr(inside, key), getattr(wanted, key)
            if here != there:
                found = f"{key} = {_value(here)} is compiled in, model.toml has {_value(there)}"
                return _check(name, Status.PROBLEM, found, f"correct model.toml, or {compile_again}")
    elif any(model.aipp for model in compiled.models):
        found = "models normalise on the chip, with an unknown mean and std"
        return _check(name, Status.WARNING, found, compile_again)
    fits = "which this machine has" if present else "this machine's chips are unknown"
    inputs = "AIPP normalises as in model.toml" if inside is not None else "no AIPP"
    return _check(name, Status.OK, f"for {compiled.soc_version}, {fits}; {compiled.precision}; {inputs}")


def _check_sizes(name: str, models: list[CompiledModel], max_batch_size: int, compile_again: str) -> Check:
    """Check what the server would do with the batch sizes of all files."""
    name = f"{name} batch sizes"
    sizes = sorted({size for model in models for size in model.batch_sizes})
    static = Counter(model.batch_sizes[0] for model in models if len(model.batch_sizes) == 1)
    twice = [size for size, count in static.items() if count > 1]
    status, advice = Status.WARNING, compile_again
    if not sizes:
        found = "unknown for these files"
    elif twice:
        status, found = Status.PROBLEM, f"two files are compiled for batch size {twice[0]}"
        advice = "remove one of them from the folder"
    elif sizes[0] > max_batch_size:
        status, found = Status.PROBLEM, f"{sizes}, all above max_batch_size = {max_batch_size}"
        advice = f"raise max_batch_size, or {compile_again}"
    elif sizes[-1] > max_batch_size:
        found = f"{sizes}; sizes above max_batch_size = {max_batch_size} never run, but take device memory"
        advice = "raise max_batch_size, or remove those files"
    elif sizes[-1] < max_batch_size:
        found = f"{sizes}; larger batches never run, though max_batch_size = {max_batch_size}"
        advice = f"{compile_again}, or lower max_batch_size"
    elif sizes[0] > 1:
        found = f"{sizes}; a single image is padded to a batch of {sizes[0]}"
    else:
        status, found, advice = Status.OK, f"{sizes}, max_batch_size = {max_batch_size}", ""
    return _check(name, status, found, advice)


def _check_file(
    name: str, file: Path, model: CompiledModel | None, compiled: CompiledFolder, compile_again: str
) -> Check:
    """Check whether this is the file that was compiled."""
    if model is None:
        found = f"not in {COMPILED_NAME}: chip, batch sizes and normalisation are unknown"
        return _check(name, Status.WARNING, found, f"remove the file, or {compile_again}")
    try:
        digest = sha256(file)
    except OSError as error:
        return _check(name, Status.PROBLEM, f"cannot be read: {error.strerror}", "let the server's user read it")
    if digest != model.sha256:
        found = f"not the file that {COMPILED_NAME} describes: its sha256 begins {digest[:12]}, not {model.sha256[:12]}"
        return _check(name, Status.PROBLEM, found, f"copy it again, or {compile_again}")
    kind = f"batch size {model.batch_sizes[0]}"
    if len(model.batch_sizes) > 1:
        kind = f"gears {', '.join(map(str, model.batch_sizes))}"
    takes = "with AIPP" if model.aipp else "without AIPP"
    return _check(name, Status.OK, f"{kind}, {takes}, {compiled.precision}; its sha256 is as recorded")


def _compile_command(version: Path, max_batch_size: int, chips: tuple[Chip, ...], more: str = "") -> str:
    source = min((file for file in version.iterdir() if file.suffix == ".onnx"), default="MODEL.onnx")
    chip = soc_version(chips[0].name) if chips else "Ascend310P3"
    sizes = f"1,{max_batch_size}" if max_batch_size > 1 else "1"
    return f"run `repserve convert onnx2om {source} --batch-sizes {sizes}{more} --soc-version {chip} --into {version}`"


def _value(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
