"""model.toml and the labels beside it. Every key is optional; the guide's values are the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from repserve_server.errors import RepositoryError
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.document import read_document
from repserve_server.repository.policy import Latest, VersionPolicy

CONFIG_NAME = "model.toml"


class ModelConfig(BaseModel):
    """The content of a model.toml.

    Attributes:
        description: for people.
        label_filename: file with one class name a line, beside model.toml.
        output: whether the model gives logits, which softmax turns into probabilities, or probabilities.
        max_batch_size: the largest batch to run.
        compiled_sizes: batch sizes the model is compiled for, on devices that need fixed ones.
        setup_command: the command that makes the first version, for the message about a model without one.
        preprocessing: how images are prepared for the model.
        version_policy: which versions are served.
        inputs: what KServe v2 clients may send: encoded images as IMAGE, pixels as INPUT.
        devices: the devices it runs on, instead of the server's.
        instance_count: workers on each device, instead of the server's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    label_filename: str = "labels.txt"
    output: Literal["logits", "probabilities"] = "logits"
    max_batch_size: int = Field(default=16, ge=1, le=256)
    compiled_sizes: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    setup_command: str = ""
    preprocessing: Preprocessing = Field(default_factory=Preprocessing)
    version_policy: VersionPolicy = Latest()
    inputs: tuple[Literal["IMAGE", "INPUT"], ...] = Field(default=("IMAGE", "INPUT"), min_length=1)
    devices: tuple[str, ...] | None = Field(default=None, min_length=1)
    instance_count: int | None = Field(default=None, ge=1, le=64)


def read_config(folder: Path) -> ModelConfig:
    """Read a model folder's model.toml; without one, everything has its default.

    Raises:
        RepositoryError: the file is not TOML, or a key is unknown or has a wrong value.
    """
    path = folder / CONFIG_NAME
    return read_document(path, ModelConfig) if path.exists() else ModelConfig()


def read_labels(folder: Path, config: ModelConfig) -> tuple[str, ...]:
    """Read the class names of a model, by index; empty without a file of the default name.

    Raises:
        RepositoryError: the file cannot be read, or model.toml names one that does not exist.
    """
    file = folder / config.label_filename
    if file.is_file():
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RepositoryError(f"{file} cannot be read as UTF-8 text: {error}") from error
        return tuple(line.strip() for line in text.rstrip("\n").split("\n"))
    if "label_filename" in config.model_fields_set:
        raise RepositoryError(
            f"{folder / CONFIG_NAME}: key 'label_filename' names {config.label_filename!r}, which does not exist"
        )
    return ()
