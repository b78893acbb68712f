"""The model files of a version's folder: ONNX models for CPUs, compiled .om models for NPUs."""

from __future__ import annotations

from pathlib import Path

from repserve_server.errors import RepositoryError

ONNX_NAME = "model.onnx"
ONNX_SUFFIX, OM_SUFFIX = ".onnx", ".om"


def find_onnx(path: Path) -> Path:
    """Find the ONNX model of a version's folder: model.onnx, or the only one; ``path`` itself where it is a file.

    Raises:
        RepositoryError: there is none, or there are several.
    """
    if path.is_file():
        return path
    files = _with_suffix(path, ONNX_SUFFIX)
    if path / ONNX_NAME in files or len(files) == 1:
        return path / ONNX_NAME if path / ONNX_NAME in files else files[0]
    raise RepositoryError(
        f"{path} holds no {ONNX_NAME} (found: {_listing(path)}); this device runs ONNX models: one of any name, or of "
        "several the one of that name"
    )


def find_om(path: Path) -> list[Path]:
    """List the .om models of a version's folder by name; ``path`` itself where it is a file.

    Raises:
        RepositoryError: there is none.
    """
    if path.is_file():
        return [path]
    files = _with_suffix(path, OM_SUFFIX)
    if not files:
        raise RepositoryError(
            f"{path} holds no .om model (found: {_listing(path)}); an NPU runs compiled models: "
            "repserve convert onnx2om makes them"
        )
    return files


def has_model(path: Path) -> bool:
    """Whether a folder holds a model of either kind."""
    return bool(_with_suffix(path, ONNX_SUFFIX) or _with_suffix(path, OM_SUFFIX))


def _with_suffix(path: Path, suffix: str) -> list[Path]:
    return sorted(file for file in path.iterdir() if file.suffix == suffix) if path.is_dir() else []


def _listing(path: Path) -> str:
    return (", ".join(sorted(file.name for file in path.iterdir())) if path.is_dir() else "") or "nothing"
