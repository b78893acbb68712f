"""``repserve golden`` on the bundled model: what it writes is what the golden check reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from repserve_server.backends.base import BackendOptions
from repserve_server.backends.factory import create_backend
from repserve_server.cli import golden
from repserve_server.repository.config import read_config
from repserve_server.repository.golden import find_golden, read_golden
from repserve_server.worker.golden import check_golden
from support.harness import DIGITS


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(DIGITS, tmp_path / "digits")
    return tmp_path / "digits"


def test_recorded_images_pass_the_check(model: Path) -> None:
    images = sorted((model / "validation" / "images").iterdir())[:3]
    arguments = ["digits", *map(str, images), "--model-repository", str(model.parent)]
    result = CliRunner().invoke(golden, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    path = find_golden(model / "1")
    assert path is not None
    assert str(path) in result.output
    assert [image.file for image in read_golden(path).image] == [image.name for image in images]
    backend = create_backend(BackendOptions("cpu", model / "1", preprocessing=read_config(model).preprocessing))
    assert check_golden(path, backend, read_config(model).preprocessing, "logits").images == 3


def test_a_file_that_is_no_image_ends_the_command_with_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image", encoding="utf-8")
    arguments = ["digits", str(tmp_path / "note.txt"), "--model-repository", str(model.parent)]
    result = CliRunner().invoke(golden, arguments)
    assert result.exit_code == 1
    assert "no known image format" in result.output
    assert find_golden(model / "1") is None
