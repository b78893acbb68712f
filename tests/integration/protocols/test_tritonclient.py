"""NVIDIA's client library, in all its four kinds, against the server: see tests/scripts/tritonclient_checks.py."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from support.harness import DIGIT_IMAGES, ROOT, RunningServer

SCRIPT = ROOT / "tests" / "scripts" / "tritonclient_checks.py"
EVERY_KIND = (
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
CHECKS = {
    "grpc": (*EVERY_KIND, "streams"),
    "grpc.aio": EVERY_KIND,
    "http": (*EVERY_KIND, "compression"),
    "http.aio": (*EVERY_KIND, "compression"),
}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 frontend", "2 frontends"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    arguments = ("--model", "repvgg_digits", "--precision", "f32", "--model-control-mode", "explicit")
    with RunningServer(*arguments, "--frontends", str(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def failures(server: RunningServer) -> Callable[[str], dict[str, str | None]]:
    """What each check of a kind failed with; one process makes them all, because starting one costs seconds."""

    @functools.cache
    def run(kind: str) -> dict[str, str | None]:
        url = server.address if kind.startswith("grpc") else server.http_url.removeprefix("http://")
        command = [sys.executable, str(SCRIPT), kind, url, str(DIGIT_IMAGES), *CHECKS[kind]]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return dict(json.loads(line) for line in ended.stdout.splitlines())

    return run


@pytest.mark.parametrize(("kind", "check"), [(kind, check) for kind, checks in CHECKS.items() for check in checks])
def test_the_client_library_gets_what_it_expects(
    failures: Callable[[str], dict[str, str | None]], kind: str, check: str
) -> None:
    assert failures(kind)[check] is None, failures(kind)[check]
