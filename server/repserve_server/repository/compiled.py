"""compiled.json: how the .om files of a version folder were compiled.

``repserve convert onnx2om`` writes it; the NPU backend and ``repserve doctor`` read it. An .om itself does not list its
gears nor, before it is loaded, the chip that it was compiled for.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from repserve_server.files import write_whole
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.document import read_document

COMPILED_NAME = "compiled.json"


class CompiledModel(BaseModel):
    """One .om.

    Attributes:
        file: its name in the folder.
        batch_sizes: the size it is compiled for, or its gears.
        aipp: whether it takes uint8 pixels and normalises them with AIPP; false also where the ONNX model itself does.
        sha256: digest of the file, in hexadecimal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(pattern=r"^[^/]+\.om$")
    batch_sizes: tuple[PositiveInt, ...] = Field(min_length=1)
    aipp: bool
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class CompiledFolder(BaseModel):
    """All .om files of a version.

    Attributes:
        soc_version: the chip, as atc names it: ``Ascend310P3``.
        precision: the arithmetic, such as ``fp16``.
        source: name of the ONNX file.
        source_sha256: its digest, in hexadecimal.
        preprocessing: the mean and std that AIPP was given; None without AIPP.
        models: the files.
        commands: the atc commands that made them.
        atc_version: the version of CANN's toolkit; empty where it was not found.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    soc_version: str = Field(min_length=1)
    precision: str
    source: str
    source_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    preprocessing: Preprocessing | None = None
    models: tuple[CompiledModel, ...] = Field(min_length=1)
    commands: tuple[str, ...] = ()
    atc_version: str = ""


def read_compiled(folder: Path) -> CompiledFolder | None:
    """Read compiled.json of a version's folder; None without one.

    Raises:
        RepositoryError: it cannot be read, or is not as expected; the message names file, key, problem and value.
    """
    path = folder / COMPILED_NAME
    return read_document(path, CompiledFolder, advice="run repserve convert onnx2om again") if path.is_file() else None


def write_compiled(folder: Path, compiled: CompiledFolder) -> None:
    """Write compiled.json; readers see the old one or the new one, never a part."""
    write_whole(folder / COMPILED_NAME, (compiled.model_dump_json(indent=2) + "\n").encode())
