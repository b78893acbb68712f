"""Reading the files that describe a model: TOML or JSON, checked against a pydantic model."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError

from repserve_server.errors import RepositoryError

Document = TypeVar("Document", bound=BaseModel)


def read_document(path: Path, kind: type[Document], *, advice: str = "") -> Document:
    """Read a .toml or .json file.

    Args:
        path: the file.
        kind: what it must hold.
        advice: what to do about a file that is wrong, where correcting it by hand is not the way.

    Raises:
        RepositoryError: the file cannot be read, or a key is unknown or has a wrong value.
    """
    language, parse = ("JSON", json.loads) if path.suffix == ".json" else ("TOML", tomllib.loads)
    try:
        return kind.model_validate(parse(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise RepositoryError(f"{path}: {_describe(error, kind)}{advice and f'; {advice}'}") from error
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of both parsers, and of text that is not UTF-8
        raise RepositoryError(f"{path} is not valid {language}: {error}") from error


def _describe(error: ValidationError, kind: type[BaseModel]) -> str:
    """Describe each problem: key, what was wrong, and the value."""
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "file"
        if problem["type"] == "extra_forbidden":
            known = _keys(kind, problem["loc"])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
            meant = f", did you mean {near[0]!r}" if near else ""
            problems.append(f"key {key!r} is not known{meant}; the keys are {', '.join(known)}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            expected = message.replace("Input should be", "expected a value that is")
            problems.append(f"key {key!r}: {expected}, got {problem['input']!r}")
    return "; ".join(problems)


def _keys(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """List the keys of the table that the last key of ``location`` is in."""
    for part in location[:-1]:
        if isinstance(part, str):  # a number counts the tables of an array
            annotation = kind.model_fields[part].annotation
            kind = next(found for found in (annotation, *get_args(annotation)) if _is_table(found))
    return [str(field.validation_alias or name) for name, field in kind.model_fields.items()]


def _is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
