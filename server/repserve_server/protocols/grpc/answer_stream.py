"""The answers of one stream: each is sent as soon as it is ready, by the task that made it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

from repserve_server.errors import DrainingError, RepServeError
from repserve_server.protocols.failures import report
from repserve_server.protocols.grpc.context import Context, headers_of
from repserve_server.protocols.grpc.status import abort

if TYPE_CHECKING:
    from repserve_server.dataplane.recorder import Recorder, RequestRecord

WINDOW = 1024
"""Requests of one stream that may be unanswered; the next is read once an answer has left for the client."""

_END = grpc.aio.EOF  # type: ignore[attr-defined]

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")


class AnswerStream(Generic[RequestT, AnswerT]):
    """Answers a stream, and knows when it is over.

    gRPC sends one message of a stream at a time. A task that has an answer sends it itself, and then the answers
    that other tasks have left meanwhile; this saves the switch to a task that only sends.

    Args:
        context: the RPC.
        method: its name.
        recorder: records each request.
        draining: set once the server takes no more requests; the stream then ends with UNAVAILABLE as soon as all it
            has sent is answered.
        respond: answers a request of a client.
        fail: makes the answer to a request that failed.
    """

    def __init__(
        self,
        context: Context,
        method: str,
        recorder: Recorder,
        draining: asyncio.Event,
        *,
        respond: Callable[[RequestT, str, RequestRecord], Awaitable[AnswerT]],
        fail: Callable[[RequestT, RepServeError], AnswerT],
    ) -> None:
        self._context, self._method, self._recorder, self._draining = context, method, recorder, draining
        self._respond, self._fail = respond, fail
        self._ready: deque[AnswerT] = deque()
        self._sending = False
        self._unsent = 0
        self._all_read = False
        self._room = asyncio.Event()
        self._over = asyncio.Event()
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer the whole stream.

        Raises:
            Exception: what broke the stream.
        """
        self._start(self._watch_drain())
        self._start(self._read())
        try:
            await self._over.wait()
        finally:
            for task in self._tasks:
                task.cancel()
        if self._failure is not None:
            raise self._failure
        if not self._all_read:
            await abort(self._context, DrainingError("the server is shutting down; continue on another one"))

    async def _read(self) -> None:
        client = self._context.peer()
        try:
            while (request := await self._context.read()) is not _END:
                while self._unsent >= WINDOW:
                    self._room.clear()
                    await self._room.wait()
                self._unsent += 1
                self._start(self._answer(request, client))
        except Exception as error:  # noqa: BLE001 - the stream ends with it
            self._end(error)
        else:
            self._end()

    async def _answer(self, request: Any, client: str) -> None:  # noqa: ANN401 - RequestT, with an id
        try:
            with self._recorder.request("grpc", self._method, self._headers) as record:
                answer = await self._respond(request, client, record)
        except Exception as error:  # noqa: BLE001 - reported
            answer = self._fail(request, report(error, self._method, self._headers, str(request.id)))
        await self._send(answer)

    async def _send(self, answer: AnswerT) -> None:
        """Send an answer, or leave it to the task that is sending now."""
        self._ready.append(answer)
        if self._sending:
            return
        self._sending = True
        try:
            while self._ready:
                await self._context.write(self._ready.popleft())
                self._unsent -= 1
                self._room.set()
        except Exception as error:  # noqa: BLE001 - the stream ends with it
            self._end(error)
        finally:
            self._sending = False
        self._check_over()

    def _headers(self) -> dict[str, str]:
        return headers_of(self._context)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, failure: Exception | None = None) -> None:
        """No more requests come: the client has sent its last one, or the stream is broken."""
        self._all_read = True
        self._failure = self._failure or failure
        self._check_over()

    def _check_over(self) -> None:
        if self._failure is not None or (self._unsent == 0 and (self._all_read or self._draining.is_set())):
            self._over.set()

    async def _watch_drain(self) -> None:
        await self._draining.wait()
        self._check_over()
