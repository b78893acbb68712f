"""The model repository: versions, labels, model.toml, and problems that name file, key and what was expected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repserve_server.errors import RepositoryError
from repserve_server.repository.config import ModelConfig, read_config
from repserve_server.repository.scan import ModelFolder, scan_repository


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "digits"
    folder.mkdir()
    return folder


def add_version(model: Path, version: str, file: str = "model.onnx") -> None:
    (model / version).mkdir()
    (model / version / file).write_bytes(b"")


def numbers(folder: ModelFolder) -> tuple[int, ...]:
    return tuple(version.number for version in folder.versions)


def scan_one(model: Path) -> ModelFolder:
    (folder,) = scan_repository(model.parent)
    return folder


def test_without_a_model_toml_everything_has_its_default(model: Path) -> None:
    add_version(model, "1")
    folder = scan_one(model)
    assert (folder.name, numbers(folder), folder.labels, folder.problem) == ("digits", (1,), (), "")
    assert folder.config == ModelConfig()


def test_versions_are_ordered_as_numbers(model: Path) -> None:
    for version in ("9", "10", "2"):
        add_version(model, version)
    assert numbers(scan_one(model)) == (2, 9, 10)


def test_only_numbered_folders_with_a_model_file_are_versions(model: Path) -> None:
    add_version(model, "1", "model_bs16.om")
    add_version(model, "2", "README.md")
    add_version(model, "latest")
    (model / "3").mkdir()
    (model / "4").write_text("a file", encoding="utf-8")
    assert numbers(scan_one(model)) == (1,)


def test_a_folder_with_leading_zeros_is_no_version(model: Path) -> None:
    add_version(model, "007")
    assert numbers(scan_one(model)) == ()


def test_a_model_without_a_version_tells_how_to_get_one(model: Path) -> None:
    assert "put a model at" in scan_one(model).problem
    (model / "model.toml").write_text('setup_command = "repserve convert --random"\n', encoding="utf-8")
    assert scan_one(model).problem == "it has no version yet; to get one: repserve convert --random"


def test_folders_that_are_hidden_or_cannot_be_named_and_files_are_left_out(tmp_path: Path) -> None:
    for name in (".git", "_old", "b", "a", os.fsdecode(b"caf\xe9")):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("text", encoding="utf-8")
    assert [folder.name for folder in scan_repository(tmp_path)] == ["a", "b"]


def test_a_repository_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"absent' is not a folder; give one with --model-repository"):
        scan_repository(tmp_path / "absent")


def test_a_repository_whose_path_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "r\udce8"
    root.mkdir()
    with pytest.raises(RepositoryError, match=r"not valid UTF-8.*rename the folder"):
        scan_repository(root)


def test_labels_are_the_lines_of_their_file(model: Path) -> None:
    (model / "labels.txt").write_text("tench, Tinca tinca\r\n goldfish \nß\n", encoding="utf-8")
    assert scan_one(model).labels == ("tench, Tinca tinca", "goldfish", "ß")


def test_a_labels_file_that_is_named_must_be_there(model: Path) -> None:
    (model / "model.toml").write_text('label_filename = "names.txt"\n', encoding="utf-8")
    problem = scan_one(model).problem
    assert "model.toml: key 'label_filename' names 'names.txt', which does not exist" in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size = 0", ("'max_batch_size'", "greater than or equal to 1", "got 0")),
        ('output = "softmax"', ("'output'", "'logits' or 'probabilities'", "got 'softmax'")),
        ("colour = 1", ("'colour' is not known", "description", "preprocessing")),
        ("[preprocessing]\ncrop = 300", ("'preprocessing'", "crop = 300 does not fit", "256")),
        ("[preprocessing]\nstd = [1.0, 0.0, 1.0]", ("'preprocessing'", "must be positive")),
        ("[preprocessing]\nmean = [1.0]", ("'preprocessing.mean", "Field required")),
        ("max_batch_size = ", ("not valid TOML",)),
    ],
)
def test_a_wrong_model_toml_is_named_with_key_and_value(model: Path, text: str, words: tuple[str, ...]) -> None:
    path = model / "model.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RepositoryError) as caught:
        read_config(model)
    assert all(word in str(caught.value) for word in (str(path), *words))
    assert scan_one(model).problem == str(caught.value)


def test_an_unknown_key_of_a_table_is_told_the_keys_of_that_table(model: Path) -> None:
    (model / "model.toml").write_text("[preprocessing]\nsize = 224\n", encoding="utf-8")
    with pytest.raises(RepositoryError, match=r"the keys are .*crop"):
        read_config(model)


@pytest.mark.parametrize("sizes", ["[]", "[0, 16]", "[-1]"])
def test_compiled_sizes_that_cannot_be_are_named(model: Path, sizes: str) -> None:
    (model / "model.toml").write_text(f"compiled_sizes = {sizes}\n", encoding="utf-8")
    with pytest.raises(RepositoryError, match="compiled_sizes"):
        read_config(model)


@pytest.mark.parametrize("name", ["labels.txt", "model.toml"])
def test_a_file_that_is_not_utf8_is_a_problem_of_its_model_only(model: Path, name: str) -> None:
    (model.parent / "other").mkdir()
    (model / name).write_bytes('description = "grün"\n'.encode("latin-1"))
    digits, other = scan_repository(model.parent)
    assert name in digits.problem
    assert name not in other.problem
