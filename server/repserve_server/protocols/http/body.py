"""The bodies of HTTP requests: read within a limited time, and checked against what a route expects."""

from __future__ import annotations

import asyncio
from typing import Annotated, TypeAlias, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from pydantic import BaseModel, BeforeValidator, RootModel, ValidationError

from repserve_server.errors import DeadlineError, InvalidRequestError, RequestTooLargeError

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of a request, decompressed; the same as of a gRPC message."""
BODY_SECONDS = 60.0
"""How long a client may take to send a body."""
JsonParameters: TypeAlias = Annotated[dict[str, object], BeforeValidator(lambda value: value or {})]
"""Parameters, none of which some clients write as null or as an empty array."""
ModelT = TypeVar("ModelT", bound=BaseModel)


class JsonObject(RootModel[dict[str, object]]):
    """Any JSON object."""


class LoadBody(BaseModel):
    """How to load a model."""

    parameters: JsonParameters = {}


class RegionBody(BaseModel):
    """Which part of which POSIX shared-memory object to register."""

    key: str
    offset: int = 0
    byte_size: int


async def read_body(request: web.Request) -> bytes:
    """Read the whole body, decompressed.

    Raises:
        RepServeError: it did not arrive in time, is too long, or is not what its headers say.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise InvalidRequestError(f"the body cannot be read: {error}") from error
    except web.HTTPRequestEntityTooLarge as error:
        message = f"the body is longer than {MAX_BODY_BYTES} bytes; send fewer images in a request"
        raise RequestTooLargeError(message) from error
    except TimeoutError as error:
        raise DeadlineError(f"the body did not arrive within {BODY_SECONDS:.0f} s") from error


async def read_json(request: web.Request, kind: type[ModelT]) -> ModelT:
    """Read a JSON body; an empty one is an empty object."""
    return parse_json((await read_body(request)).strip() or b"{}", kind)


def parse_json(text: bytes, kind: type[ModelT], hint: str = "") -> ModelT:
    """Check JSON against a model.

    Args:
        text: the JSON.
        kind: the model.
        hint: what the message adds if the text is not JSON at all.

    Raises:
        InvalidRequestError: it is not JSON, or not what the model expects.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise InvalidRequestError(f"the body is not JSON: {first['msg']}{hint}") from error
        place = ".".join(map(str, first["loc"]))
        message = f"the body is not as expected: {place + ': ' if place else ''}{first['msg']}"
        raise InvalidRequestError(message) from error
