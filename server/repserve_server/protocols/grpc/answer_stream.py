"""The answers of one stream: sent in the order in which they are ready, each by whoever made it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import grpc

from repserve_server.errors import DrainingError
from repserve_server.protocols.grpc.calls import Context, abort, headers_of

WINDOW = 1024
"""Requests of one stream that may be unanswered; the next is taken when an answer has left for the client."""

_END: Any = grpc.aio.EOF  # type: ignore[attr-defined]

AnswerT = TypeVar("AnswerT")


class AnswerStream(Generic[AnswerT]):
    """Counts a stream's requests until their answers are sent, and knows when the stream is over.

    gRPC sends one message of a stream at a time. A task that has an answer sends it itself, and then whatever other
    tasks have left meanwhile; that is one change of task less for each answer than a sender of its own.
    """

    def __init__(self, context: Context, draining: asyncio.Event) -> None:
        self._context = context
        self._draining = draining
        self._ready: deque[AnswerT] = deque()
        self._sending = False
        self._unsent = 0
        self._all_read = False
        self._room = asyncio.Event()
        self._over = asyncio.Event()
        self._failure: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._drain_watch = asyncio.create_task(self._watch_drain())

    @property
    def headers(self) -> dict[str, str]:
        """The metadata of the stream, which hold for all its requests."""
        return headers_of(self._context)

    async def begin(self) -> None:
        """A request was read: wait until there is room for it, then count it."""
        while self._unsent >= WINDOW:
            self._room.clear()
            await self._room.wait()
        self._unsent += 1

    def work(self, work: Coroutine[Any, Any, None]) -> None:
        """Answer a request that was counted, beside the others; ``work`` ends with ``send``."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(self, answer: AnswerT) -> None:
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
            self.end(error)
        finally:
            self._sending = False
        self._check_over()

    def end(self, failure: Exception | None = None) -> None:
        """No more requests come: the client has sent its last one, or the stream is broken."""
        self._all_read = True
        self._failure = self._failure or failure
        self._check_over()

    async def finished(self) -> bool:
        """Return when everything is answered: True when a drain ended the stream, False when the client did.

        Raises:
            Exception: what broke the stream.
        """
        await self._over.wait()
        if self._failure is not None:
            raise self._failure
        return not self._all_read

    def cancel(self) -> None:
        """Stop all work for this stream."""
        self._drain_watch.cancel()
        for task in self._tasks:
            task.cancel()

    def _check_over(self) -> None:
        if self._failure is not None or (self._unsent == 0 and (self._all_read or self._draining.is_set())):
            self._over.set()

    async def _watch_drain(self) -> None:
        await self._draining.wait()
        self._check_over()


async def serve_stream(
    context: Context,
    draining: asyncio.Event,
    answer: Callable[[Any, str, AnswerStream[AnswerT]], Coroutine[Any, Any, None]],
) -> None:
    """Answer a whole stream.

    Args:
        context: the RPC.
        draining: set when the server takes no more requests; the stream then ends with UNAVAILABLE once all it has
            sent is answered.
        answer: answers one request, for this client, with ``AnswerStream.send``; never raises.
    """
    answers: AnswerStream[AnswerT] = AnswerStream(context, draining)
    reader = asyncio.create_task(_read(context, answers, answer))
    try:
        ended_by_drain = await answers.finished()
    finally:
        reader.cancel()
        answers.cancel()
    if ended_by_drain:
        await abort(context, DrainingError("the server is shutting down; continue on another one"))


async def _read(
    context: Context,
    answers: AnswerStream[AnswerT],
    answer: Callable[[Any, str, AnswerStream[AnswerT]], Coroutine[Any, Any, None]],
) -> None:
    client = context.peer()
    try:
        while (request := await context.read()) is not _END:
            await answers.begin()
            answers.work(answer(request, client, answers))
    except Exception as error:  # noqa: BLE001 - handed to the RPC
        answers.end(error)
    else:
        answers.end()
