"""KServe v2 over HTTP: what each path answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from repserve_server.channel.requests import Region
from repserve_server.errors import DeadlineError, InvalidRequestError, NotAllowedError, RequestTooLargeError
from repserve_server.protocols.http.messages import HEADER_LENGTH, read_request, write_response
from repserve_server.protocols.kserve.core import NO_CUDA, NO_TRACE
from repserve_server.protocols.kserve.log_settings import read_level, write_settings

if TYPE_CHECKING:
    from repserve_server.dataplane.recorder import Recorder, RequestRecord
    from repserve_server.dataplane.statistics import Duration, ModelStatistics
    from repserve_server.protocols.kserve.core import InferenceCore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OWN_ID = "own_id"
"""Where a request keeps the id that its body carries, for those who report how it ended."""
_LARGE_BODY = 256 * 1024
"""Bytes of JSON that are read in a thread, not to hold up other requests; raw tensors are only sliced."""
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of a request, decompressed; the same as of a gRPC message."""
BODY_SECONDS = 60.0
"""How long a client may take to send a body."""
_COMPRESSED_FROM = 1024
"""Bytes of an answer from which compressing it is worth the time."""


class RestRoutes:
    """Converts bodies; what they mean is the core's business."""

    def __init__(self, core: InferenceCore, recorder: Recorder) -> None:
        self._core, self._recorder = core, recorder
        # Python's lock is held while JSON is read: of several at once the event loop would get none of it for long.
        self._reading = asyncio.Semaphore(1)

    def table(self) -> list[tuple[str, str, Handler]]:
        """Every route: method, path, handler."""
        models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        return [
            ("GET", "/v2", self.server_metadata),
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/v2/models/stats", self.statistics),
            *[("GET", path, self.model_metadata) for path in models],
            *[("GET", f"{path}/ready", self.model_ready) for path in models],
            *[("GET", f"{path}/config", self.model_config) for path in models],
            *[("GET", f"{path}/stats", self.statistics) for path in models],
            *[("POST", f"{path}/infer", self.infer) for path in models],
            ("POST", "/v2/repository/index", self.index),
            ("POST", "/v2/repository/models/{model}/load", self.load),
            ("POST", "/v2/repository/models/{model}/unload", self.unload),
            ("GET", "/v2/systemsharedmemory/status", self.regions),
            ("GET", "/v2/systemsharedmemory/region/{region}/status", self.regions),
            ("POST", "/v2/systemsharedmemory/region/{region}/register", self.register_region),
            ("POST", "/v2/systemsharedmemory/region/{region}/unregister", self.unregister_region),
            ("POST", "/v2/systemsharedmemory/unregister", self.unregister_region),
            ("GET", "/v2/cudasharedmemory/status", self.no_cuda_regions),
            ("GET", "/v2/cudasharedmemory/region/{region}/status", self.no_cuda_regions),
            ("POST", "/v2/cudasharedmemory/region/{region}/register", self.refuse_cuda_region),
            ("POST", "/v2/cudasharedmemory/region/{region}/unregister", self.nothing),
            ("POST", "/v2/cudasharedmemory/unregister", self.nothing),
            ("GET", "/v2/trace/setting", self.no_trace),
            ("POST", "/v2/trace/setting", self.refuse_trace),
            ("GET", "/v2/logging", self.log_settings),
            ("POST", "/v2/logging", self.change_log_settings),
        ]

    async def live(self, _: web.Request) -> web.Response:
        """Whether the server answers."""
        return web.json_response({"live": self._core.live()})

    async def ready(self, _: web.Request) -> web.Response:
        """Whether the server takes requests: 200, or 503, which load balancers understand."""
        ready = self._core.ready()
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def model_ready(self, request: web.Request) -> web.Response:
        """Whether a model answers: 200, or 503."""
        name, version = _model(request)
        ready = self._core.model_ready(name, version)
        return web.json_response({"name": name, "ready": ready}, status=200 if ready else 503)

    async def server_metadata(self, _: web.Request) -> web.Response:
        """The server's name and what it speaks."""
        return web.json_response(asdict(self._core.server_metadata()))

    async def model_metadata(self, request: web.Request) -> web.Response:
        """The tensors of a model."""
        return web.json_response(asdict(self._core.model_metadata(*_model(request))))

    async def model_config(self, request: web.Request) -> web.Response:
        """How a model is served."""
        return web.json_response(self._core.model_config(*_model(request)))

    async def statistics(self, request: web.Request) -> web.Response:
        """What became of a model's requests, or of all models'."""
        entries = await self._core.statistics(*_model(request))
        return web.json_response({"model_stats": [_write_statistics(entry) for entry in entries]})

    async def infer(self, request: web.Request) -> web.Response:
        """Classify images."""
        with self._recorder.request("http", "ModelInfer", lambda: headers_of(request)) as record:
            return await self._infer(request, record)

    async def index(self, request: web.Request) -> web.Response:
        """Every version of the repository."""
        asked = await _json_body(request)
        entries = self._core.index(ready_only=bool(asked.get("ready", False)))
        return web.json_response([asdict(entry) for entry in entries])

    async def load(self, request: web.Request) -> web.Response:
        """Load a model from its folder."""
        if (await _json_body(request)).get("parameters"):
            raise InvalidRequestError("a model is loaded as its folder is; it takes no parameters")
        await self._core.administration.load(_model(request)[0])
        return web.json_response({})

    async def unload(self, request: web.Request) -> web.Response:
        """Unload a model."""
        await self._core.administration.unload(_model(request)[0])
        return web.json_response({})

    async def regions(self, request: web.Request) -> web.Response:
        """The shared-memory regions that are registered."""
        regions = await self._core.regions(request.match_info.get("region", ""))
        return web.json_response([asdict(region) for region in regions])

    async def register_region(self, request: web.Request) -> web.Response:
        """Make a region known to the whole server."""
        asked = await _json_body(request)
        try:
            place = (str(asked["key"]), int(asked.get("offset", 0)), int(asked["byte_size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequestError("a region has a key, an offset (0 without one) and a byte_size") from error
        await self._core.administration.register_region(Region(request.match_info["region"], *place))
        return web.json_response({})

    async def unregister_region(self, request: web.Request) -> web.Response:
        """Forget a region, or all of them."""
        await self._core.administration.unregister_region(request.match_info.get("region", ""))
        return web.json_response({})

    async def no_cuda_regions(self, _: web.Request) -> web.Response:
        """None is registered."""
        return web.json_response([])

    async def refuse_cuda_region(self, _: web.Request) -> web.Response:
        """None can be."""
        raise NotAllowedError(NO_CUDA)

    async def no_trace(self, _: web.Request) -> web.Response:
        """There are no trace settings."""
        return web.json_response({})

    async def refuse_trace(self, request: web.Request) -> web.Response:
        """None can be changed."""
        if await _json_body(request):
            raise NotAllowedError(NO_TRACE)
        return web.json_response({})

    async def nothing(self, _: web.Request) -> web.Response:
        """There is nothing to do."""
        return web.json_response({})

    async def log_settings(self, _: web.Request) -> web.Response:
        """From which level the server logs."""
        return web.json_response(write_settings(await self._core.administration.log_level()))

    async def change_log_settings(self, request: web.Request) -> web.Response:
        """Log from another level on."""
        administration = self._core.administration
        level = read_level(await _json_body(request), await administration.log_level())
        return web.json_response(write_settings(await administration.log_level(level)))

    async def _infer(self, request: web.Request, record: RequestRecord) -> web.Response:
        name, version = _model(request)
        body = await _read_body(request)
        length = request.headers.get(HEADER_LENGTH)
        if length is None and len(body) > _LARGE_BODY:
            async with self._reading:
                asked, binary = await asyncio.to_thread(read_request, body, length, name, version)
        else:
            asked, binary = read_request(body, length, name, version)
        request[OWN_ID] = asked.id
        answer, json_length = write_response(await self._core.infer(asked, _client(request), None, record), binary)
        headers = {} if json_length is None else {HEADER_LENGTH: str(json_length)}
        content_type = "application/json" if json_length is None else "application/octet-stream"
        response = web.Response(body=answer, headers=headers, content_type=content_type)
        if len(answer) >= _COMPRESSED_FROM:
            response.enable_compression()
        return response


def _model(request: web.Request) -> tuple[str, str]:
    """The names of a model and its version in a path; empty where it has none."""
    return request.match_info.get("model", ""), request.match_info.get("version", "")


def headers_of(request: web.Request) -> dict[str, str]:
    """The headers of a request, by their names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}


def _client(request: web.Request) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"http:{peer}"


async def _read_body(request: web.Request) -> bytes:
    """The whole body, decompressed; a client has a limited time to send it.

    Raises:
        RepServeError: it did not come in time, is too long, or is not what its headers say.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise InvalidRequestError(f"the body cannot be read: {error}") from error
    except web.HTTPRequestEntityTooLarge as error:
        raise RequestTooLargeError(f"the body is longer than {MAX_BODY_BYTES} bytes") from error
    except TimeoutError as error:
        raise DeadlineError(f"the body did not arrive within {BODY_SECONDS:.0f} s") from error


async def _json_body(request: web.Request) -> dict[str, Any]:
    """The JSON object in a body; an empty body is an empty object."""
    body = await _read_body(request)
    try:
        content = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidRequestError(f"the body is {type(content).__name__}; it is a JSON object")
    return content


def _write_statistics(entry: ModelStatistics) -> dict[str, Any]:
    """A model version's statistics, as Triton's statistics extension has them."""
    names = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "name": entry.name,
        "version": entry.version,
        "last_inference": entry.last_inference,
        "inference_count": entry.inferences,
        "execution_count": sum(runs.count for runs in entry.batches.values()),
        "inference_stats": {name: _write_duration(getattr(entry, name)) for name in names},
        "batch_stats": [
            {"batch_size": size, "compute_infer": _write_duration(runs)} for size, runs in sorted(entry.batches.items())
        ],
    }


def _write_duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.nanoseconds}
