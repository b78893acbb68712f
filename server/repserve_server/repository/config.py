"""model.toml: what a model folder says of itself. Every key is optional; the guide's values are the defaults."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.policy import Latest, VersionPolicy

CONFIG_NAME = "model.toml"


class RepositoryError(Exception):
    """A model folder that cannot be served as it is; the message names file, key and what was expected."""


class ModelConfig(BaseModel):
    """The content of a model.toml.

    Attributes:
        description: for people.
        label_filename: file with one class name a line, beside model.toml.
        output: whether the model gives logits, which softmax turns into probabilities, or probabilities.
        max_batch_size: the largest batch to run.
        compiled_sizes: batch sizes the model is compiled for, on devices that need fixed ones.
        setup_command: the command that makes a version where there is none.
        preprocessing: what is done to an image.
        version_policy: which versions are served.
        inputs: what KServe v2 clients may send: encoded images as IMAGE, pixels as INPUT.
        devices: what it runs on, instead of the server's devices.
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
    if not path.exists():
        return ModelConfig()
    try:
        return ModelConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RepositoryError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise RepositoryError(f"{path}: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    """Each problem as: key, what was wrong, what was got."""
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "file"
        if problem["type"] == "extra_forbidden":
            table = Preprocessing if len(problem["loc"]) > 1 else ModelConfig
            near = difflib.get_close_matches(str(problem["loc"][-1]), table.model_fields, 1)
            meant = f", did you mean {near[0]!r}" if near else ""
            problems.append(f"key {key!r} is not known{meant}; the keys are {', '.join(table.model_fields)}")
        else:
            said = problem["msg"].removeprefix("Value error, ").replace("Input should be", "expected a value that is")
            problems.append(f"key {key!r}: {said}, got {problem['input']!r}")
    return "; ".join(problems)
