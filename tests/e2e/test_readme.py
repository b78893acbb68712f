"""The README's commands, taken from its text: their flags exist, and they do what it says on the shipped models."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click
import pytest

from harness import DIGIT_IMAGES, DIGITS, MODEL_REPOSITORY, ROOT, RunningServer, digit_files, repserve
from repserve_client.cli import main

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
NOT_RUN = ("make ", "pip ", "repserve convert pth2onnx ")
"""The network, torch and hours are not for this test: of these only the spelling is checked."""


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each command in the ``sh`` blocks, in order, without comments."""
    lines = "".join(fenced(text, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


COMMANDS = commands(README)
OWN = [words[1:] for words in COMMANDS if words[0] == "repserve"]


def flags_of(words: list[str]) -> tuple[set[str], set[str]]:
    """The flags that a ``repserve`` command uses, and those that it has."""
    command: click.Command = main
    rest = list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"there is no subcommand {name}"
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    return {word for word in rest if word.startswith("-")}, known


def test_commands_are_read_from_the_text() -> None:
    text = "```sh\n# a comment\na --b \\\n  c   # why\n\nd 'e f'\n```\n```python\nno\n```\n"
    assert commands(text) == [["a", "--b", "c"], ["d", "e f"]]


def test_every_subcommand_is_shown_and_every_program_is_known() -> None:
    shown = {tuple(words[: 2 if words[0] in {"bench", "convert"} else 1]) for words in OWN}
    assert shown == {
        *(("models",), ("serve",), ("classify",)),
        *(("bench", "run"), ("bench", "table"), ("convert", "random"), ("convert", "pth2onnx")),
    }
    assert {words[0] for words in COMMANDS} == {"repserve", "make", "pip", "curl"}


@pytest.mark.parametrize("words", OWN, ids=" ".join)
def test_every_flag_exists(words: list[str]) -> None:
    used, known = flags_of(words)
    assert used <= known


def test_a_flag_that_does_not_exist_is_noticed() -> None:
    used, known = flags_of(["bench", "run", "--images", "x", "--label", "y"])
    assert used - known == {"--label"}


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "make"], ids=" ".join)
def test_every_make_target_exists(words: list[str]) -> None:
    assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "pip"], ids=" ".join)
def test_every_extra_exists(words: list[str]) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r"\[([\w,]+)\]", words[-1])
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[$", project, re.MULTILINE)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with what the README's commands name: the shipped models, a photo, labelled images."""
    shutil.copytree(
        MODEL_REPOSITORY,
        tmp_path / "model_repo",
        ignore=lambda folder, _: {"1"} if folder.endswith("repvgg_a0") else set(),
    )
    shutil.copytree(DIGIT_IMAGES, tmp_path / "imagenet" / "val")
    shutil.copy(DIGITS / "validation" / "val_label.txt", tmp_path / "imagenet")
    shutil.copy(digit_files()[0], tmp_path / "photo.jpg")
    return tmp_path


def run(folder: Path, words: list[str]) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_commands_do_what_they_say_in_the_order_of_the_page(workplace: Path) -> None:
    printed: dict[str, str] = {}
    with ExitStack() as running:
        server: RunningServer | None = None
        for words in COMMANDS:
            text = shlex.join(words)
            if text.startswith(NOT_RUN):
                continue
            if words[:2] == ["repserve", "serve"]:
                # The page says "then start the server": the one before is stopped.
                running.close()
                repository = workplace / words[words.index("--model-repository") + 1]
                server = running.enter_context(RunningServer(*words[2:], "--model-repository", str(repository)))
                printed[text] = server.log
            elif words[0] == "curl":
                assert server is not None
                path = urllib.parse.urlsplit(words[1]).path
                with urllib.request.urlopen(server.metrics_url + path, timeout=10) as reply:  # noqa: S310 - our server
                    printed[text] = reply.read().decode()
            else:
                command = [repserve(), *words[1:]]
                if words[1] == "classify" or words[1:3] == ["bench", "run"]:
                    assert server is not None
                    command += ["--server", server.address]
                elif words[1:3] == ["bench", "table"]:
                    command += ["--seconds", "0.5"]
                printed[text] = run(workplace, command)
    pages = "\n".join(printed.values())
    assert "repserve convert random --variant A0 --into model_repo/repvgg_a0/1" in pages
    assert "8752" in pages
    assert "SIMULATED" in pages
    assert (workplace / "report.json").exists()
    digits = next(output for text, output in printed.items() if "bench run --model repvgg_digits" in text)
    assert "99.44 %" in digits
    classified = next(output for text, output in printed.items() if "classify" in text)
    assert re.search(r"^ +1 +1 +one ", classified, re.MULTILINE)


def test_the_python_example_prints_a_class(workplace: Path) -> None:
    (example,) = fenced(README, "python")
    with RunningServer("--model", "repvgg_digits") as server:
        script = example.replace("127.0.0.1:8001", server.address)
        assert script != example
        assert run(workplace, [sys.executable, "-c", script]).startswith("one 0.9")
