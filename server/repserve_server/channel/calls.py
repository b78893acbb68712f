"""Calls over a control channel: requests to the other side, which responds to them in any order."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import TypeVar, cast

from repserve_server.channel.message import Message
from repserve_server.channel.requests import AnyRequest, AnyResponse, Call, Failure, Reply, Request, ResponseT
from repserve_server.errors import InternalError, RelayedError, RepServeError, ServerUnavailableError

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


class Caller:
    """Makes calls.

    Args:
        send: sends a message; what cannot be sent is lost.
    """

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[AnyResponse]] = {}
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many calls have no response yet."""
        return len(self._calls)

    async def call(self, request: Request[ResponseT], seconds: float) -> ResponseT:
        """Send a request and return its response.

        Raises:
            RepServeError: the other side's, or there is no response within ``seconds``.
        """
        if self._closed:
            raise _gone()
        number = next(self._numbers)
        future: asyncio.Future[AnyResponse] = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            self._send(Call(number=number, request=cast("AnyRequest", request)))
            response = await asyncio.wait_for(future, seconds)
        except TimeoutError as error:
            name = type(request).__name__
            raise ServerUnavailableError(f"no response to {name} within {seconds:.0f} s") from error
        finally:
            del self._calls[number]
        if isinstance(response, Failure):
            raise RelayedError(response.status, response.message, retry_after=response.retry_after)
        return cast("ResponseT", response)

    def take(self, reply: Reply) -> None:
        """Take the response to a call; one that comes too late is dropped."""
        future = self._calls.get(reply.number)
        if future is not None and not future.done():
            future.set_result(reply.response)

    def close(self) -> None:
        """Fail all calls, since the other side is gone."""
        self._closed = True
        for future in self._calls.values():
            if not future.done():
                future.set_exception(_gone())


def attempt(request: AnyRequest, step: Callable[[], ResultT]) -> ResultT | Failure:
    """Do a step of a request; an error becomes its response, and an unexpected one is logged too."""
    failure: RepServeError
    try:
        return step()
    except RepServeError as error:
        failure = error
    except Exception:
        logger.exception("%s failed", type(request).__name__)
        failure = InternalError("internal error; the server's log says why")
    return Failure(status=failure.status, message=failure.message, retry_after=failure.retry_after)


def _gone() -> ServerUnavailableError:
    return ServerUnavailableError("the process that would answer has ended; try again soon")
