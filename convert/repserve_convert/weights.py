"""Train-time weights from a .pth file."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from repserve_convert.errors import ConversionError, require

if TYPE_CHECKING:
    from pathlib import Path

    from repserve_convert.reparameterise import State

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the state dict in a larger checkpoint."""


def load_pth(path: Path) -> State:
    """Read a state dict saved by torch, without running code from it.

    Args:
        path: a .pth file: a state dict, or a checkpoint that has one under ``state_dict`` or ``model``.

    Returns:
        Every array by its name in the file, as float32.

    Raises:
        ConversionError: torch is not installed, or the file is missing, damaged, or no state dict.
    """
    torch = require("torch")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConversionError(f"there is no file {path}") from error
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{path} is damaged or holds more than weights (torch.save(network.state_dict(), ...) "
            f"makes a file of weights only): {_first_line(error)}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ConversionError(f"{path} cannot be read as a torch file: {_first_line(error)}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise ConversionError(f"{path} holds no state dict: expected one, or a checkpoint with 'state_dict' or 'model'")
    state: State = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConversionError(f"{path} holds no state dict: key {name!r} is not a tensor")
        state[name] = value.detach().float().numpy()
    return state


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
