from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from repserve_client import cli

if TYPE_CHECKING:
    from pathlib import Path

SUBCOMMANDS = ("serve", "models", "doctor", "classify", "bench", "convert")


def fake_subcommand(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str, extra: str | None = "server") -> None:
    """Makes ``serve`` load a module with this body."""
    (folder / "fake_serve.py").write_text(body)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "fake_serve", raising=False)
    subcommand = cli.Subcommand("fake_serve", "serve", "Serve.", extra)
    monkeypatch.setitem(cli.SUBCOMMANDS, "serve", subcommand)


def test_help_lists_every_subcommand_without_importing_any() -> None:
    script = (
        "import sys; from repserve_client.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted(sys.modules.keys() & {'repserve_server', 'repserve_bench', 'repserve_convert',"
        " 'repserve_client.classify'}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in result.stdout
    assert result.stdout.rstrip().endswith("[]")


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_subcommand(monkeypatch, tmp_path, "import not_installed_anywhere")
    result = CliRunner().invoke(cli.main, ["serve", "--help"])
    assert result.exit_code == 2
    assert (
        "repserve serve needs packages that are not installed (missing: not_installed_anywhere): "
        "pip install 'repserve[server]'"
    ) in result.stderr


@pytest.mark.parametrize(
    "body",
    [
        "import repserve_server.no_such_module",
        "import json.no_such_module",
        "import grpc.no_such_module",
        "from json import no_such_name",
        "raise ModuleNotFoundError('no name')",
    ],
)
def test_a_mistake_in_the_code_is_not_taken_for_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str
) -> None:
    fake_subcommand(monkeypatch, tmp_path, body)
    result = CliRunner().invoke(cli.main, ["serve"])
    assert isinstance(result.exception, ImportError)


def test_a_subcommand_runs_with_its_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_subcommand(
        monkeypatch,
        tmp_path,
        "import click\n@click.command()\n@click.argument('word')\ndef serve(word): click.echo(word * 2)",
    )
    result = CliRunner().invoke(cli.main, ["serve", "ab"])
    assert (result.exit_code, result.stdout) == (0, "abab\n")


def test_an_unknown_subcommand_is_refused_by_name() -> None:
    result = CliRunner().invoke(cli.main, ["sreve"])
    assert result.exit_code == 2
    assert "sreve" in result.stderr


def test_the_version_is_the_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"repserve": "9.8.7"}.__getitem__)
    assert CliRunner().invoke(cli.main, ["--version"]).stdout == "repserve 9.8.7\n"
