from __future__ import annotations

from pathlib import Path

import pytest

from repserve_convert.errors import ConversionError
from repserve_convert.version_folder import check_config, check_version_folder, config_text, install, staging
from repserve_server.imaging.preprocessing import Preprocessing
from repserve_server.repository.config import ModelConfig, read_config


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """New files a, b and c, to go into ``place``, which has an old b and an old d."""
    folder, place = tmp_path / "work", tmp_path / "place"
    folder.mkdir()
    place.mkdir()
    for name in "abc":
        (folder / name).write_text(f"new {name}")
    for name in "bd":
        (place / name).write_text(f"old {name}")
    return folder


def test_new_files_take_the_place_of_old_ones(work: Path) -> None:
    place = work.parent / "place"
    install({work / name: place / name for name in "abc"}, [place / "d", place / "gone"], work / "attic")
    assert contents(place) == {"a": "new a", "b": "new b", "c": "new c"}


@pytest.mark.parametrize("failing", range(5))
def test_a_failure_at_any_step_leaves_all_as_before(work: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Five files are moved: two old ones away, three new ones into place; also Ctrl-C counts."""
    place, moved, replace = work.parent / "place", [], Path.replace

    def fail(path: Path, target: Path) -> Path:
        moved.append(path)
        if len(moved) == failing + 1:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        install({work / name: place / name for name in "abc"}, [place / "d"], work / "attic")
    assert len(moved) > failing
    assert contents(place) == {"b": "old b", "d": "old d"}


def test_new_folders_that_stay_empty_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "model" / "1"
    with staging(folder) as work:
        assert work.parent == folder.parent
        (work / "half.om").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_existing_folders_stay(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "1"
    folder.mkdir(parents=True)
    with staging(folder) as work:
        (work / "new.om").write_text("new")
        (work / "new.om").replace(folder / "new.om")
    assert contents(tmp_path) == {"model/1/new.om": "new"}


@pytest.mark.parametrize("name", ["one", "01", "1.0", "-1"])
def test_a_version_is_a_number(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConversionError, match="its name must be a number, as in model_repo/repvgg_a0/1"):
        check_version_folder(tmp_path / name, [])


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model_bs1.om").write_text("by hand")
    check_version_folder(tmp_path / "1", ["model_bs16.om"])
    with pytest.raises(ConversionError, match=r"model_bs1\.om exists and was not made by this command"):
        check_version_folder(tmp_path / "1", ["model_bs1.om", "model_bs16.om"])


def test_files_beside_an_unreadable_record_are_known_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    for name in ("model_bs1.om", "mine.om"):
        (folder / name).write_text("")
    (folder / "compiled.json").write_text("{")
    check_version_folder(folder, ["model_bs1.om"])
    with pytest.raises(ConversionError, match=r"mine\.om exists"):
        check_version_folder(folder, ["mine.om"])


def test_a_model_without_a_file_gets_the_defaults(tmp_path: Path) -> None:
    assert check_config(tmp_path, 224, 16) == ModelConfig()
    assert check_config(tmp_path, 224, 64) == ModelConfig(max_batch_size=64)
    with pytest.raises(ConversionError, match=r"batch size 512: the server runs at most 256 \(key 'max_batch_size'\)"):
        check_config(tmp_path, 224, 512)
    with pytest.raises(ConversionError, match=r"'preprocessing\.crop' is 224 by default, .* crop = 96"):
        check_config(tmp_path, 96, 16)


def test_a_file_that_is_there_must_fit(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text("max_batch_size = 8\n[preprocessing]\ncrop = 96\n")
    assert check_config(tmp_path, 96, 8).max_batch_size == 8
    with pytest.raises(ConversionError, match=r"model\.toml: key 'max_batch_size' is 8, but the largest batch is 16"):
        check_config(tmp_path, 96, 16)
    with pytest.raises(ConversionError, match=r"model\.toml: key 'preprocessing\.crop' is 96, but .* 224 by 224"):
        check_config(tmp_path, 224, 8)
    (tmp_path / "model.toml").write_text("max_bach = 8\n")
    with pytest.raises(ConversionError, match="key 'max_bach' is not known"):
        check_config(tmp_path, 96, 8)


@pytest.mark.parametrize("description", ["RepVGG-A0", 'with "quotes" \\ and\ttabs', "图像分类 🐱"])
def test_the_written_file_says_what_was_meant(tmp_path: Path, description: str) -> None:
    config = ModelConfig(max_batch_size=64, preprocessing=Preprocessing(mean=(0.1, 0.2, 0.3)))
    (tmp_path / "model.toml").write_text(config_text(config, description), encoding="utf-8")
    assert read_config(tmp_path) == config.model_copy(update={"description": description})
