"""KServe v2 over HTTP as any HTTP client sees it: statuses, hostile bodies, and clients that go away."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.digits_server import DIGITS_ON_CPU
from support.harness import RunningServer, digit_files, wait_until
from support.versioned_runtime import expected_class, make_model

Reply = tuple[int, dict[str, str], Any]


@pytest.fixture(scope="module")
def digits(shared_server: Callable[..., RunningServer]) -> RunningServer:
    return shared_server(*DIGITS_ON_CPU)


def ask(server: RunningServer, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    host, _, port = server.http_url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, dict(response.headers), json.loads(content) if content else None


def infer(server: RunningServer, content: object, model: str = "repvgg_digits", **headers: str) -> Reply:
    return ask(server, "POST", f"/v2/models/{model}/infer", json.dumps(content).encode(), **headers)


def image_input(contents: list[bytes]) -> dict[str, Any]:
    data = [{"b64": base64.b64encode(content).decode()} for content in contents]
    return {"name": "IMAGE", "datatype": "BYTES", "shape": [len(data)], "data": data}


def test_images_in_json_get_their_classes(digits: RunningServer) -> None:
    contents = [file.read_bytes() for file in digit_files()[:3]]
    status, _, scores = infer(digits, {"inputs": [image_input(contents)], "id": "seven"})
    assert (status, scores["id"], scores["model_version"]) == (200, "seven", "1")
    output = scores["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("FP32", [3, 10])
    best = np.reshape(output["data"], (3, 10)).argmax(axis=1).tolist()
    wanted = {"name": output["name"], "parameters": {"classification": 1}}
    _, _, ranked = infer(digits, {"inputs": [image_input(contents)], "outputs": [wanted]})
    assert [int(entry.split(":")[1]) for entry in ranked["outputs"][0]["data"]] == best


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/nothing", 404, "there is nothing at /nothing"),
        ("GET", "/v2/models/nothing", 404, "no model 'nothing'"),
        ("GET", "/v2/models/repvgg_digits/versions/7", 404, "no version '7'"),
        ("GET", "/v2/models/a%2Fb%20c", 404, "no model 'a/b c'"),
        ("DELETE", "/v2", 405, "/v2 does not accept DELETE"),
        ("GET", "/v2/models/repvgg_digits/infer", 405, "does not accept GET"),
        ("POST", "/v2/models/repvgg_digits/infer", 400, "is not JSON"),
        ("POST", "/v2/models/nothing/infer", 400, "is not JSON"),
        ("POST", "/v2/repository/models/repvgg_digits/unload", 400, "--model-control-mode explicit"),
        ("POST", "/v2/cudasharedmemory/region/r/register", 400, "no CUDA memory"),
        ("POST", "/v2/systemsharedmemory/region/r/register", 400, "key: Field required"),
        ("GET", "/v2/systemsharedmemory/region/r/status", 404, "no shared-memory region 'r'"),
    ],
)
def test_errors_are_json_with_the_status_of_the_one_table(
    digits: RunningServer, method: str, path: str, status: int, words: str
) -> None:
    got, headers, content = ask(digits, method, path)
    assert got == status
    assert headers["Content-Type"].startswith("application/json")
    assert words in content["error"]
    assert "Traceback" not in digits.log


def test_every_route_answers_and_is_described(digits: RunningServer) -> None:
    status, _, document = ask(digits, "GET", "/openapi.json")
    assert (status, document["openapi"]) == (200, "3.1.0")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert ("POST", "/v2/models/{model}/versions/{version}/infer") in described
    for method, path in described:
        names = {"{model}": "repvgg_digits", "{version}": "1", "{region}": "r"}
        real = re.sub(r"\{\w+\}", lambda found, names=names: names[found.group()], path)  # type: ignore[misc]
        got, _, content = ask(digits, method, real)
        assert got in (200, 400, 404), (method, real, got)
        assert got != 404 or "region" in real, (method, real, content)


def test_health_says_ready_with_a_status(digits: RunningServer) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/repvgg_digits/ready"):
        assert ask(digits, "GET", path)[0] == 200
    assert ask(digits, "GET", "/v2/models/nothing/ready")[0] == 503


def test_a_compressed_body_is_bounded_after_it_is_decompressed(digits: RunningServer) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(100)), packer.flush()])
    assert len(bomb) < 200_000
    status, _, content = ask(digits, "POST", "/v2/models/repvgg_digits/infer", bomb, Content_Encoding="gzip")
    assert (status, "longer than" in content["error"]) == (413, True)
    damaged = zlib.compress(b'{"inputs": []}')[:-6] + b"xxxxxx"
    status, _, _ = ask(digits, "POST", "/v2/models/repvgg_digits/infer", damaged, Content_Encoding="deflate")
    assert status == 400


def test_what_a_client_sends_wrong_is_counted_as_that(digits: RunningServer) -> None:
    def requests(code: str) -> float:
        return digits.metric("repserve_requests_total", protocol="http", method="ModelInfer", code=code)

    def refused(reason: str) -> float:
        return digits.metric("repserve_rejected_requests_total", reason=reason)

    before = {code: requests(code) for code in ("INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND")}
    reasons = {reason: refused(reason) for reason in ("invalid", "unknown_model")}
    path = "/v2/models/repvgg_digits/infer"
    assert ask(digits, "POST", path, bytes(65 * 1024 * 1024))[0] == 413
    assert ask(digits, "POST", path, b"no gzip", Content_Encoding="gzip")[0] == 400
    assert ask(digits, "POST", path, b"no JSON")[0] == 400
    assert ask(digits, "POST", "/v2/models/cats/infer", b'{"inputs": []}')[0] == 404
    assert {code: requests(code) - count for code, count in before.items()} == {
        "INTERNAL": 0,
        "INVALID_ARGUMENT": 3,
        "NOT_FOUND": 1,
    }
    assert {reason: refused(reason) - count for reason, count in reasons.items()} == {"invalid": 3, "unknown_model": 1}


OTHER, OWN = "http://evil.example", "http://127.0.0.1"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": OTHER}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": OWN}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://own.example", "Host": "own.example:80"}, 200),
        ({"Origin": "https://own.example", "Host": "own.example:80"}, 403),
        ({"Origin": "https://own.example", "X-Forwarded-Host": "own.example"}, 200),
        ({"Origin": OWN}, 200),
        ({}, 200),
    ],
)
def test_pages_of_other_sites_can_change_nothing(digits: RunningServer, headers: dict[str, str], status: int) -> None:
    if headers.get("Origin") == OWN:
        headers = {**headers, "Origin": digits.http_url}
    assert ask(digits, "POST", "/v2/logging", b"{}", **headers)[0] == status
    assert ask(digits, "GET", "/v2/logging", None, **headers)[0] == 200


def test_what_is_not_http_is_refused_and_not_logged(digits: RunningServer) -> None:
    before = digits.log
    for data in (b"GET /v2 HTTP/9.x\r\n\r\n", b"GET /v2 HTTP/1.1\r\nbad header\r\n\r\n", b"GET /" + b"x" * 9000):
        host, _, port = digits.http_url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(data + b" HTTP/1.1\r\n\r\n")
            assert b" 400 " in connection.recv(100)
    assert digits.log == before


def test_deep_nesting_and_odd_headers_are_refused(digits: RunningServer) -> None:
    deep = b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    assert ask(digits, "POST", "/v2/models/repvgg_digits/infer", deep)[0] == 400
    for length in ("-1", "x", "999999"):
        got = infer(digits, {"inputs": []}, Inference_Header_Content_Length=length)
        assert (got[0], "Inference-Header-Content-Length" in got[2]["error"]) == (400, True)
    assert infer(digits, {"inputs": [image_input([digit_files()[0].read_bytes()])]})[0] == 200


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("slow")
    make_model(repository, 1)
    arguments = ("--runtime", "support.versioned_runtime:Runtime", "--max-queue-size", "8")
    with RunningServer(*arguments, repository=repository, environment={"VERSIONED_RUN_SECONDS": "0.3"}) as server:
        yield server


def pixel_input(count: int = 1) -> dict[str, Any]:
    return {"name": "INPUT", "datatype": "UINT8", "shape": [count, 8, 8, 3], "data": [5] * (count * 192)}


def send_only(server: RunningServer, content: object) -> socket.socket:
    host, _, port = server.http_url.removeprefix("http://").partition(":")
    body = json.dumps(content).encode()
    connection = socket.create_connection((host, int(port)), 10)
    head = f"POST /v2/models/versioned/infer HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_a_full_queue_is_429_and_says_when_to_come_back(slow: RunningServer) -> None:
    (worker,) = slow.children("worker")
    worker.suspend()
    held = send_only(slow, {"inputs": [pixel_input(8)]})
    wait_until(lambda: slow.metric("repserve_queue_images") == 8, "the queue is full")
    status, headers, content = infer(slow, {"inputs": [pixel_input()]}, "versioned")
    worker.resume()
    assert (status, "holds 8 of 8" in content["error"]) == (429, True)
    assert int(headers["Retry-After"]) >= 1
    assert int(headers["Retry-After-Ms"]) > 0
    assert b" 200 OK" in held.recv(100)
    held.close()


def test_a_deadline_is_a_parameter_and_504(slow: RunningServer) -> None:
    status, _, content = infer(slow, {"inputs": [pixel_input()], "parameters": {"timeout": 50_000}}, "versioned")
    assert (status, "deadline" in content["error"]) == (504, True)
    status, _, content = infer(slow, {"inputs": [pixel_input()], "parameters": {"timeout": 9_000_000}}, "versioned")
    assert status == 200
    assert int(np.argmax(content["outputs"][0]["data"])) == expected_class(5, 1)


def test_a_client_that_goes_away_takes_its_images_out_of_the_queue(slow: RunningServer) -> None:
    (worker,) = slow.children("worker")
    dropped = slow.metric("repserve_dropped_images_total", reason="cancelled")
    worker.suspend()
    first = send_only(slow, {"inputs": [pixel_input()]})
    second = send_only(slow, {"inputs": [pixel_input(3)]})
    wait_until(lambda: slow.metric("repserve_queue_images") == 4, "the images wait")
    second.close()
    wait_until(lambda: slow.metric("repserve_requests_total", code="CANCELLED") == 1, "the frontend saw it go")
    worker.resume()
    wait_until(lambda: slow.metric("repserve_dropped_images_total", reason="cancelled") == dropped + 3, "they are gone")
    assert b" 200 OK" in first.recv(100)
    first.close()
    wait_until(lambda: slow.metric("repserve_queue_images") == 0, "every slot is free")
