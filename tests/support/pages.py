"""The commands of a documentation page, taken from its text, and a place where they can be run as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repserve_client.cli import main
from support.doctor_machines import TABLE_310P
from support.harness import DIGIT_IMAGES, DIGITS, MODEL_REPOSITORY, RunningServer, digit_files
from support.standin_atc import install_atc
from support.standin_models import standin_environment

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_RUN = ("make ", "pip ", "python3 -m venv ", ".venv/bin/pip ", "source ")
"""The network, hours and CANN itself are not for tests: of these only the spelling is checked."""


def fenced(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The words of each command in the ``sh`` blocks, in order, without comments."""
    lines = "".join(fenced(text, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def own_commands(text: str) -> list[list[str]]:
    """The words after ``repserve`` of each such command."""
    return [words[1:] for words in commands(text) if words[0] == "repserve"]


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
    return {word.partition("=")[0] for word in rest if word.startswith("-")}, known


class Workplace:
    """A reader's folder: the shipped models, labelled images, weights; with the stand-ins for CANN and an NPU.

    Torch is not for these tests, and training weights are not at hand: ``pth2onnx`` gives the trained digits.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(
            MODEL_REPOSITORY,
            folder / "model_repo",
            ignore=lambda path, _: {"1"} if path.endswith("repvgg_a0") else set(),
        )
        shutil.copytree(DIGIT_IMAGES, folder / "imagenet" / "val")
        shutil.copy(DIGITS / "validation" / "val_label.txt", folder / "imagenet")
        shutil.copy(digit_files()[0], folder / "photo.jpg")
        programs = install_atc(folder / "bin").parent
        npu_smi = programs / "npu-smi"
        npu_smi.write_text(f"#!/bin/sh\ncat <<'END'\n{TABLE_310P}END\n")
        npu_smi.chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.standin = {**standin_environment(), "PATH": path}
        self.server: RunningServer | None = None

    def run(self, words: list[str], expected: int | None = 0) -> str:
        """Run a command that is to exit with a status, or with any; returns what it printed."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, **self.standin},
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        assert expected in (None, done.returncode), f"{shlex.join(words)}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def follow(self, page: list[list[str]], status: Callable[[str], int | None] = lambda _: 0) -> list[tuple[str, str]]:
        """Run the commands of a page in order; returns each with what it printed.

        A page says "then start the server": the one before is stopped. Servers and their clients are on free ports.

        Args:
            page: the commands.
            status: the exit status that a command is to have; None is any.
        """
        printed: list[tuple[str, str]] = []
        with ExitStack() as running:
            for words in page:
                text = shlex.join(words)
                if not text.startswith(NOT_RUN):
                    printed.append((text, self._follow(words, running, status(text))))
        return printed

    def _follow(self, words: list[str], running: ExitStack, expected: int | None) -> str:
        if words[:3] == ["repserve", "convert", "pth2onnx"]:
            return self._convert(self.folder / words[-1])
        if words[:2] == ["repserve", "serve"]:
            running.close()
            repository = self.folder / words[words.index("--model-repository") + 1]
            server = RunningServer(*words[2:], "--model-repository", str(repository), environment=self.standin)
            self.server = running.enter_context(server)
            return server.log
        if words[0] == "curl":
            assert self.server is not None
            url = urllib.parse.urlsplit(words[1])
            own = {8000: self.server.http_url, 8002: self.server.metrics_url}[url.port or 0]
            with urllib.request.urlopen(own + url.path, timeout=10) as reply:  # noqa: S310 - our server
                return str(reply.read().decode())
        more: list[str] = []
        needs_server = words[1:3] in [["bench", name] for name in ("run", "sweep", "saturate", "mlperf")]
        if words[1:2] == ["classify"] or (needs_server and "--device" not in words):
            assert self.server is not None
            more = ["--server", self.server.address]
        elif words[1:3] == ["bench", "table"]:
            running.close()
            more = ["--seconds", "0.5"]
        return self.run([*words, *more], expected)

    @staticmethod
    def _convert(target: Path) -> str:
        target.parent.mkdir(exist_ok=True)
        target.parent.joinpath("WEIGHTS.txt").unlink(missing_ok=True)
        shutil.copy(DIGITS / "1" / "model.onnx", target)
        return ""
