"""KServe v2 over HTTP: what each path answers."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from aiohttp import web

from repserve_server.protocols.http.body import JsonObject, LoadBody, RegionBody, read_body, read_json
from repserve_server.protocols.http.inference_messages import HEADER_LENGTH, read_request, write_response
from repserve_server.protocols.http.routing import OPENAPI_PATH, OWN_ID, Handler, Route, headers_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from repserve_server.dataplane.recorder import Recorder, RequestRecord
    from repserve_server.protocols.kserve.core import InferenceCore

OPENAPI = Path(__file__).with_name("openapi.json")
_Answer: TypeAlias = Callable[[web.Request], object]
"""Returns a document, or awaits one; None is answered as an empty object."""
_LARGE_BODY = 256 * 1024
"""Bytes of JSON from which it is read in a thread, so as not to hold up other requests; raw tensors are only sliced."""
_COMPRESSED_FROM = 1024
"""Bytes of an answer from which compressing it is worth the time."""


class RestRoutes:
    """Converts bodies; what they mean is the core's business."""

    def __init__(self, core: InferenceCore, recorder: Recorder) -> None:
        self._core, self._recorder = core, recorder
        # Python's lock is held while JSON is read: with several at once the event loop would hardly run.
        self._reading = asyncio.Semaphore(1)

    def table(self) -> list[Route]:
        """Every route, the OpenAPI document that describes them included."""
        core, document = self._core, load_openapi()
        models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        answers: list[tuple[str, str, _Answer]] = [
            ("GET", OPENAPI_PATH, lambda _: document),
            ("GET", "/v2", lambda _: core.server_metadata()),
            ("GET", "/v2/health/live", lambda _: {"live": core.live()}),
            ("GET", "/v2/models/stats", lambda _: core.statistics("", "")),
            *[("GET", path, lambda request: core.model_metadata(*_model(request))) for path in models],
            *[("GET", f"{path}/config", lambda request: core.model_config(*_model(request))) for path in models],
            *[("GET", f"{path}/stats", lambda request: core.statistics(*_model(request))) for path in models],
            ("POST", "/v2/repository/index", self._index),
            ("POST", "/v2/repository/models/{model}/load", self._load),
            ("POST", "/v2/repository/models/{model}/unload", lambda request: core.unload(_model(request)[0])),
            ("GET", "/v2/systemsharedmemory/status", lambda _: core.regions("")),
            ("GET", "/v2/systemsharedmemory/region/{region}/status", lambda request: core.regions(_region(request))),
            ("POST", "/v2/systemsharedmemory/region/{region}/register", self._register_region),
            (
                "POST",
                "/v2/systemsharedmemory/region/{region}/unregister",
                lambda request: core.unregister_region(_region(request)),
            ),
            ("POST", "/v2/systemsharedmemory/unregister", lambda _: core.unregister_region("")),
            ("GET", "/v2/cudasharedmemory/status", lambda _: []),
            ("GET", "/v2/cudasharedmemory/region/{region}/status", lambda _: []),
            ("POST", "/v2/cudasharedmemory/region/{region}/register", lambda _: core.register_cuda_region()),
            ("POST", "/v2/cudasharedmemory/region/{region}/unregister", lambda _: None),
            ("POST", "/v2/cudasharedmemory/unregister", lambda _: None),
            ("GET", "/v2/trace/setting", lambda _: None),
            ("POST", "/v2/trace/setting", self._change_trace_settings),
            ("GET", "/v2/logging", lambda _: core.log_settings({})),
            ("POST", "/v2/logging", self._change_log_settings),
        ]
        return [
            *[(method, path, _as_json(answer)) for method, path, answer in answers],
            ("GET", "/v2/health/ready", self._ready),
            *[("GET", f"{path}/ready", self._model_ready) for path in models],
            *[("POST", f"{path}/infer", self._infer) for path in models],
        ]

    async def _ready(self, _: web.Request) -> web.Response:
        """200 or 503, which load balancers understand."""
        ready = self._core.ready()
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def _model_ready(self, request: web.Request) -> web.Response:
        name, version = _model(request)
        ready = self._core.model_ready(name, version)
        return web.json_response({"name": name, "ready": ready}, status=200 if ready else 503)

    async def _index(self, request: web.Request) -> object:
        body = await read_json(request, JsonObject)
        return self._core.index(ready_only=bool(body.root.get("ready")))

    async def _load(self, request: web.Request) -> None:
        body = await read_json(request, LoadBody)
        await self._core.load(_model(request)[0], body.parameters)

    async def _register_region(self, request: web.Request) -> None:
        body = await read_json(request, RegionBody)
        await self._core.register_region(_region(request), body.key, body.offset, body.byte_size)

    async def _change_trace_settings(self, request: web.Request) -> None:
        self._core.change_trace_settings((await read_json(request, JsonObject)).root)

    async def _change_log_settings(self, request: web.Request) -> object:
        return await self._core.log_settings((await read_json(request, JsonObject)).root)

    async def _infer(self, request: web.Request) -> web.Response:
        with self._recorder.request("http", "ModelInfer", lambda: headers_of(request)) as record:
            return await self._answer_inference(request, record)

    async def _answer_inference(self, request: web.Request, record: RequestRecord) -> web.Response:
        name, version = _model(request)
        body = await read_body(request)
        length = request.headers.get(HEADER_LENGTH)
        if length is None and len(body) > _LARGE_BODY:
            async with self._reading:
                inference, binary = await asyncio.to_thread(read_request, body, length, name, version)
        else:
            inference, binary = read_request(body, length, name, version)
        request[OWN_ID] = inference.id
        answer, json_length = write_response(await self._core.infer(inference, _client(request), None, record), binary)
        headers = {} if json_length is None else {HEADER_LENGTH: str(json_length)}
        content_type = "application/json" if json_length is None else "application/octet-stream"
        response = web.Response(body=answer, headers=headers, content_type=content_type)
        if len(answer) >= _COMPRESSED_FROM:
            response.enable_compression()
        return response


def load_openapi() -> dict[str, dict[str, JsonValue]]:
    """Load the OpenAPI document, with the version of this server."""
    document: dict[str, dict[str, JsonValue]] = json.loads(OPENAPI.read_text(encoding="utf-8"))
    document["info"]["version"] = version_of("repserve")
    return document


def _as_json(answer: _Answer) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        content = answer(request)
        if inspect.isawaitable(content):
            content = await content
        return web.json_response({} if content is None else content)

    return handler


def _model(request: web.Request) -> tuple[str, str]:
    """Return the model and the version in a path; empty where it has none."""
    return request.match_info.get("model", ""), request.match_info.get("version", "")


def _region(request: web.Request) -> str:
    return request.match_info["region"]


def _client(request: web.Request) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"http:{peer}"
