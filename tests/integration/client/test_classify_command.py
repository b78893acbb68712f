from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from click.testing import CliRunner, Result

from repserve_client.cli import main
from support.fake_server import FakeServer, Refusal, default_answer

if TYPE_CHECKING:
    from repserve_protos.v1.classification_pb2 import ClassifyRequest, ClassifyResponse

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``repserve classify`` in a folder with the images three.jpg, four.jpg and bad.jpg."""
    monkeypatch.chdir(tmp_path)
    Path("three.jpg").write_bytes(b"123")
    Path("four.jpg").write_bytes(b"1234")
    Path("bad.jpg").write_bytes(b"bad image")
    return lambda *arguments: CliRunner().invoke(main, ["classify", *arguments])


def rejecting(request: ClassifyRequest) -> ClassifyResponse:
    if request.encoded_image == b"bad image":
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "the image is corrupt")
    return default_answer(request)


def test_one_image_gives_a_table(run: Run) -> None:
    with FakeServer() as server:
        result = run("three.jpg", "--server", server.address, "--model", "a0", "--model-version", "2", "--top-k", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "three.jpg  (model a0, version 2)",
        "  rank  index  label  probability",
        "     1      3  3           0.9000",
        "  decode 0.5 ms, queue 0.1 ms, compute 2.0 ms in a batch of 1",
    ]
    assert server.unary_requests[0].top_k == 1


def test_several_images_go_over_one_stream_in_their_order(run: Run) -> None:
    with FakeServer() as server:
        result = run("four.jpg", "three.jpg", "--server", server.address)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines() if not line.startswith(" ")] == [
        "four.jpg",
        "three.jpg",
    ]
    assert (server.streams, len(server.unary_requests)) == (1, 0)


def test_json_is_an_array_with_stable_keys(run: Run) -> None:
    with FakeServer(rejecting) as server:
        one = run("three.jpg", "--json", "--server", server.address)
        several = run("bad.jpg", "three.jpg", "--json", "--server", server.address)
    (record,) = json.loads(one.stdout)
    assert record == {
        "file": "three.jpg",
        "model": "fake",
        "version": "1",
        "classes": [{"index": 3, "label": "3", "probability": pytest.approx(0.9)}],
        "batch_size": 1,
        "decode_seconds": pytest.approx(0.0005),
        "queue_seconds": pytest.approx(0.0001),
        "compute_seconds": pytest.approx(0.002),
    }
    assert (one.exit_code, several.exit_code) == (0, 1)
    assert json.loads(several.stdout) == [
        {"file": "bad.jpg", "error": {"code": "INVALID_ARGUMENT", "message": "the image is corrupt"}},
        record,
    ]


def test_images_that_fail_are_named_and_the_others_are_answered(run: Run) -> None:
    with FakeServer(rejecting) as server:
        result = run("bad.jpg", "none.jpg", "three.jpg", "--server", server.address)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: bad.jpg: the image is corrupt",
        "Error: cannot read none.jpg: No such file or directory",
    ]
    assert result.stdout.startswith("three.jpg  (model fake, version 1)\n")


def test_one_image_that_fails_is_named_too(run: Run) -> None:
    with FakeServer(rejecting) as server:
        result = run("bad.jpg", "--server", server.address)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: bad.jpg: the image is corrupt\n"


def test_a_server_that_is_not_there_is_named_once(run: Run) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        result = run("three.jpg", "four.jpg", "--server", address)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: cannot reach the server at {address}: ")


def test_an_address_that_is_a_url_is_a_mistake_in_the_command(run: Run) -> None:
    result = run("three.jpg", "--server", "http://127.0.0.1:8001")
    assert result.exit_code == 2
    assert "expected host:port" in result.stderr
