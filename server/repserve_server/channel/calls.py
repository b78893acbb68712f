"""Calls over a control channel: either side sends requests, the other answers them, in any order."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import cast

from repserve_server.channel.message import Message
from repserve_server.channel.requests import AnyRequest, AnyResponse, Call, Failure, Reply, Request, ResponseT
from repserve_server.errors import InternalError, RelayedError, RepServeError, ServerUnavailableError

logger = logging.getLogger(__name__)

Handler = Callable[[AnyRequest], Awaitable[AnyResponse]]


class Peer:
    """The other side of a channel, as one that answers calls and makes them.

    Args:
        send: sends a message; what cannot be sent is lost.
        handle: answers a request. What it raises is raised again by the other side's ``call``: a ``RepServeError`` as
            it is, anything else as an internal error, logged here.
    """

    def __init__(self, send: Callable[[Message], None], handle: Handler) -> None:
        self._send, self._handle = send, handle
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[AnyResponse]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

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
        self._send(Call(number=number, request=cast("AnyRequest", request)))
        try:
            response = await asyncio.wait_for(future, seconds)
        except TimeoutError as error:
            name = type(request).__name__
            raise ServerUnavailableError(f"no response to {name} within {seconds:.0f} s") from error
        finally:
            del self._calls[number]
        if isinstance(response, Failure):
            raise RelayedError(response.status, response.message, retry_after=response.retry_after)
        return cast("ResponseT", response)

    def receive(self, message: Call | Reply) -> None:
        """Take a message of the other side's."""
        if isinstance(message, Call):
            task = asyncio.get_running_loop().create_task(self._respond(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            future = self._calls.get(message.number)
            if future is not None and not future.done():
                future.set_result(message.response)

    def close(self) -> None:
        """The other side is gone: calls to it fail, and its own are dropped."""
        self._closed = True
        for future in self._calls.values():
            if not future.done():
                future.set_exception(_gone())
        for task in self._tasks:
            task.cancel()

    async def _respond(self, call: Call) -> None:
        response: AnyResponse
        try:
            response = await self._handle(call.request)
        except RepServeError as error:
            response = fail(error)
        except Exception:
            logger.exception("%s failed", type(call.request).__name__)
            response = fail(InternalError("internal error; the server's log says why"))
        self._send(Reply(number=call.number, response=response))


def fail(error: RepServeError) -> Failure:
    """An error as a response."""
    return Failure(status=error.status, message=error.message, retry_after=error.retry_after)


def _gone() -> ServerUnavailableError:
    return ServerUnavailableError("the process that would answer has ended; try again soon")
