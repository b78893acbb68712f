"""NVIDIA's client library, in all its four kinds, against the server: see tests/scripts/tritonclient_checks.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.harness import DIGIT_IMAGES, ROOT, RunningServer

SCRIPT = ROOT / "tests" / "scripts" / "tritonclient_checks.py"
KINDS = ("grpc", "grpc.aio", "http", "http.aio")
CHECKS = (
    "health_and_metadata",
    "images_get_their_classes",
    "pixels_of_any_number",
    "classification",
    "wrong_requests",
    "parameters",
    "statistics",
    "shared_memory",
    "log_settings",
    "loading_by_request",
)


@pytest.fixture(scope="module", params=[1, 2], ids=["1 frontend", "2 frontends"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    arguments = ("--model", "repvgg_digits", "--precision", "f32", "--model-control-mode", "explicit")
    with RunningServer(*arguments, "--frontends", str(request.param)) as running:
        yield running


def run_check(server: RunningServer, kind: str, check: str) -> None:
    url = server.address if kind.startswith("grpc") else server.http_url.removeprefix("http://")
    command = [sys.executable, str(SCRIPT), kind, url, check, str(DIGIT_IMAGES)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS)
def test_the_client_library_gets_what_it_expects(server: RunningServer, kind: str, check: str) -> None:
    run_check(server, kind, check)


def test_streams_of_the_client_library(server: RunningServer) -> None:
    run_check(server, "grpc", "streams")


@pytest.mark.parametrize("kind", ["http", "http.aio"])
def test_compressed_and_json_bodies_of_the_client_library(server: RunningServer, kind: str) -> None:
    run_check(server, kind, "compression")


def test_the_script_checks_every_kind() -> None:
    assert f"KINDS = {KINDS!r}".replace("'", '"') in Path(SCRIPT).read_text(encoding="utf-8")
