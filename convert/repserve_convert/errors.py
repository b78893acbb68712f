"""The package's error: raised for missing packages too, and printed at the end of a command."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import ParamSpec

import click

Arguments = ParamSpec("Arguments")


class ConversionError(Exception):
    """Weights or a model that cannot be converted; the message says what was wrong and what to do."""


def require(module: str) -> ModuleType:
    """Import a package of the ``convert`` extra.

    Args:
        module: name as in an import statement.

    Returns:
        The imported module.

    Raises:
        ConversionError: it is not installed; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # The extra bench has onnx too, without torch.
        extra = "bench" if module == "onnx" else "convert"
        raise ConversionError(f"{error.name} is not installed: pip install 'repserve[{extra}]'") from error


def reported(command: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Report a command's errors in one line, with exit status 1."""

    @wraps(command)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> None:
        try:
            command(*arguments, **options)
        except (ConversionError, OSError) as error:
            raise click.ClickException(str(error)) from error

    return run
