"""A version's folder in the model repository as the target of compiled models: all of them, or none."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from repserve_convert.errors import ConversionError
from repserve_server.errors import RepositoryError
from repserve_server.repository.compiled import read_compiled
from repserve_server.repository.config import CONFIG_NAME, ModelConfig, read_config

_OUR_NAMES = re.compile(r"model_(bs\d+|gears)\.om")


def own_models(folder: Path) -> set[str]:
    """List the .om files of a folder that an earlier compilation put there."""
    try:
        compiled = read_compiled(folder)
    except RepositoryError:
        # It exists but cannot be read: go by the names.
        return {file.name for file in folder.glob("*.om") if _OUR_NAMES.fullmatch(file.name)}
    return {model.file for model in compiled.models} if compiled else set()


def check_version_folder(folder: Path, names: Sequence[str]) -> None:
    """Check that files of these names may be put into a folder.

    Raises:
        ConversionError: the folder is not a version's, or another file has one of the names.
    """
    if not re.fullmatch(r"0|[1-9]\d*", folder.name) or (folder.exists() and not folder.is_dir()):
        raise ConversionError(
            f"{folder} is not a version's folder: its name must be a number, as in model_repo/repvgg_a0/1"
        )
    own = own_models(folder)
    for name in names:
        if (folder / name).exists() and name not in own:
            raise ConversionError(
                f"{folder / name} exists and was not made by this command: remove it first, or choose another folder"
            )


def check_config(folder: Path, side: int | None, largest: int) -> ModelConfig:
    """Read a model folder's model.toml, or take the defaults, and compare it with the compilation.

    Args:
        folder: of the model.
        side: of the model's input, in pixels; None where any fits.
        largest: batch size.

    Raises:
        ConversionError: model.toml is wrong or does not fit; the message names the key.
    """
    path = folder / CONFIG_NAME
    try:
        config = read_config(folder)
        if not path.exists():
            config = ModelConfig(max_batch_size=max(largest, config.max_batch_size))
    except RepositoryError as error:
        raise ConversionError(str(error)) from error
    except ValidationError as error:
        limit = error.errors()[0]["ctx"]["le"]
        raise ConversionError(
            f"batch size {largest}: the server runs at most {limit} (key 'max_batch_size')"
        ) from error
    if side not in (None, config.preprocessing.crop):
        raise ConversionError(
            f"{path}: key 'preprocessing.crop' is {config.preprocessing.crop}"
            f"{'' if path.exists() else ' by default'}, but the model takes images of {side} by {side} pixels: set "
            f"crop = {side} in its table [preprocessing], and resize to what fits"
        )
    if config.max_batch_size < largest:
        raise ConversionError(
            f"{path}: key 'max_batch_size' is {config.max_batch_size}, but the largest batch is {largest}: "
            "raise it, or compile smaller batches"
        )
    return config


def config_text(config: ModelConfig, description: str) -> str:
    """Write a model.toml with the keys that a compiled model depends on."""
    preprocessing = config.preprocessing
    return (
        "# A labels.txt beside this file may name the classes, one per line, in order.\n"
        f"description = {json.dumps(description, ensure_ascii=False)}\n"
        f'output = "{config.output}"\n'
        f"max_batch_size = {config.max_batch_size}\n"
        "\n"
        "[preprocessing]\n"
        f"resize = {preprocessing.resize}\n"
        f"crop = {preprocessing.crop}\n"
        f"mean = {list(preprocessing.mean)}\n"
        f"std = {list(preprocessing.std)}\n"
    )


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Make a temporary folder beside a version's folder; new folders that stay empty are removed at the end.

    Yields:
        The folder. It is on the disk of the version's folder, so files can be moved there atomically.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
            yield Path(name)
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


def install(moves: Mapping[Path, Path], obsolete: Sequence[Path], attic: Path) -> None:
    """Put new files in place and remove obsolete ones; if anything fails, restore the former state.

    Args:
        moves: target of each new file, in order; existing files are replaced.
        obsolete: files to remove.
        attic: a folder to make for the old files, on the same disk.
    """
    attic.mkdir()
    kept: dict[Path, Path] = {}
    try:
        for number, old in enumerate(dict.fromkeys([*obsolete, *reversed(list(moves.values()))])):
            if old.exists():
                kept[old] = attic / str(number)
                old.replace(kept[old])
        for new, place in moves.items():
            new.replace(place)
    except BaseException:
        for new, place in moves.items():
            if not new.exists():
                place.unlink(missing_ok=True)
        for old, place in kept.items():
            if place.exists():
                place.replace(old)
        raise
