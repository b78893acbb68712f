"""The error of this package, and how a missing optional package becomes one."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


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
