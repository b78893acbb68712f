"""Weights from a .pth file."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

from repserve_convert.errors import ConversionError, require
from repserve_convert.reparameterise import State

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts save the state dict in a larger checkpoint."""


def load_pth(path: Path) -> State:
    """Read a state dict saved by torch, without running code from it.

    Args:
        path: a .pth file: a state dict, or a checkpoint that has one under one of ``WRAPPERS``.

    Returns:
        Every array by its name in the file, as float32.

    Raises:
        ConversionError: torch is not installed, or the file is missing, damaged, or not a state dict.
    """
    torch = require("torch")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        sums = _checksums(path)
    except FileNotFoundError as error:
        raise ConversionError(f"{path} does not exist") from error
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{path} is damaged or holds more than weights (torch.save(network.state_dict(), ...) "
            f"makes a file of weights only): {_first_line(error)}"
        ) from error
    except Exception as error:  # unpickling a damaged file ends in almost any exception
        raise ConversionError(f"{path} cannot be read as a torch file: {_first_line(error)}") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise ConversionError(
            f"{path} holds no state dict: expected one, or a checkpoint that has one under {', '.join(WRAPPERS)}"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConversionError(f"{path} holds no state dict: key {name!r} is not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise ConversionError(f"{path}: key {name!r} is sparse, quantised or complex; expected plain numbers")
        if sums and value.numel() and zlib.crc32(_stored_bytes(value)) not in sums:
            raise ConversionError(f"{path} is damaged: key {name!r} does not fit the file's checksum")
    return {name: value.detach().float().numpy() for name, value in content.items()}


def _checksums(path: Path) -> set[int]:
    """Read the CRC-32 of every record of a file; empty where there are none.

    torch.load ignores them, and a flipped bit makes another network of the same shapes. There are none in torch's older
    format, which is not a zip archive, nor in files saved without (all are 0 then).
    """
    if not zipfile.is_zipfile(path):
        return set()
    with zipfile.ZipFile(path) as archive:
        sums = {entry.CRC for entry in archive.infolist()}
    return sums if any(sums) else set()


def _stored_bytes(tensor: Any) -> bytes:  # noqa: ANN401 - torch is imported where it is used
    """Return the file's record of a tensor: its whole storage, which several tensors may share."""
    import torch

    stored: bytes = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy().tobytes()
    return stored


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
