"""The models and versions of a repository: <model>/model.toml, <model>/<version>/<model files>."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from repserve_server.errors import RepositoryError
from repserve_server.repository.config import CONFIG_NAME, ModelConfig, read_config, read_labels
from repserve_server.repository.golden import GOLDEN_FOLDER
from repserve_server.repository.model_files import has_model
from repserve_server.repository.policy import choose
from repserve_server.repository.weights_note import read_caution


@dataclass(frozen=True)
class VersionFolder:
    """A version of a model.

    Attributes:
        number: the folder's name.
        path: the folder.
        fingerprint: changes with any file that loading depends on: of the version, model.toml, labels or golden images.
        caution: the first line of its WEIGHTS.txt, such as that its weights are random.
    """

    number: int
    path: Path
    fingerprint: str = ""
    caution: str = ""


@dataclass(frozen=True)
class ModelFolder:
    """A model in the repository.

    Attributes:
        name: the folder's name, which requests use.
        path: the folder.
        config: its model.toml.
        labels: class names by index; empty when there is no labels file.
        versions: the version folders that hold a model file, ascending.
        caution: that of the newest version.
        problem: why nothing of it can be served; empty when the newest version can be tried.
    """

    name: str
    path: Path
    config: ModelConfig = field(default_factory=ModelConfig)
    labels: tuple[str, ...] = ()
    versions: tuple[VersionFolder, ...] = ()
    caution: str = ""
    problem: str = ""

    @property
    def chosen(self) -> tuple[VersionFolder, ...]:
        """The versions that are to be served by the model's own policy, ascending."""
        numbers = choose([version.number for version in self.versions], self.config.version_policy)
        return tuple(version for version in self.versions if version.number in numbers)


def scan_repository(root: Path) -> list[ModelFolder]:
    """List every model folder below ``root``, by name.

    Raises:
        RepositoryError: ``root`` is not a folder.
    """
    if not root.is_dir():
        raise RepositoryError(f"the model repository {str(root)!r} is not a folder; give one with --model-repository")
    if not _is_utf8(str(root)):
        raise RepositoryError(f"the path of the model repository is not valid UTF-8: {str(root)!r}; rename the folder")
    return [scan_model(path) for path in sorted(root.iterdir()) if path.is_dir() and _is_model_name(path.name)]


def _is_model_name(name: str) -> bool:
    """Whether requests can name it."""
    return not name.startswith((".", "_")) and _is_utf8(name)


def _is_utf8(path: str) -> bool:
    """Whether messages can hold a path: bytes that are not UTF-8 become lone surrogates, which they cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def scan_model(path: Path) -> ModelFolder:
    """Read a model's folder."""
    try:
        config = read_config(path)
        labels = read_labels(path, config)
    except RepositoryError as error:
        return ModelFolder(path.name, path, problem=str(error))
    folders = sorted((folder for folder in path.iterdir() if _is_version(folder)), key=lambda folder: int(folder.name))
    common = (path / CONFIG_NAME, path / config.label_filename)
    golden = tuple((path / GOLDEN_FOLDER).rglob("*"))
    versions = tuple(
        VersionFolder(
            number=int(folder.name),
            path=folder,
            fingerprint=_fingerprint(path, (*common, *golden, *folder.rglob("*"))),
            caution=read_caution(folder),
        )
        for folder in folders
    )
    problem = ""
    if not versions:
        how = config.setup_command or f"put a model at {path / '1' / 'model.onnx'}"
        problem = f"it has no version yet; to get one: {how}"
    caution = versions[-1].caution if versions else ""
    return ModelFolder(path.name, path, config, labels, versions, caution, problem)


def _fingerprint(model: Path, files: Iterable[Path]) -> str:
    """Identify the state of these files without reading them: by name, size, time of change and inode."""
    digest = hashlib.sha256()
    for file in sorted(files):
        if file.is_file():
            status = file.stat()
            entry = (str(file.relative_to(model)), status.st_size, status.st_mtime_ns, status.st_ino)
            digest.update(repr(entry).encode())
    return digest.hexdigest()


def _is_version(folder: Path) -> bool:
    """Whether a folder is named by a number, written as numbers are, and holds a model."""
    if not folder.is_dir() or not folder.name.isdecimal() or folder.name != str(int(folder.name)):
        return False
    return has_model(folder)
