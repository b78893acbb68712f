"""The blocking side of streams: one thread reads answers, the consumer's thread does the rest."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeAlias

import grpc

from repserve_client.errors import ClientError, UnavailableError, from_rpc_error
from repserve_client.window import Outcome, StreamWindow
from repserve_protos.v1 import classification_pb2

Call: TypeAlias = "grpc.CallIterator[classification_pb2.ClassifyStreamResponse]"
StartCall: TypeAlias = "Callable[[Iterator[classification_pb2.ClassifyStreamRequest]], Call]"
Events: TypeAlias = "queue.SimpleQueue[classification_pb2.ClassifyStreamResponse | ClientError]"

END_TIMEOUT = 1.0
ENDED_EARLY = "the server ended the stream before it had answered everything"


class StreamDriver:
    """Sends a window's requests over one RPC at a time, and a new one after each that broke.

    The consumer's thread reads the input and sends, so nothing runs on when the consumer stops iterating.
    """

    def __init__(self, window: StreamWindow, start: StartCall, clock: Callable[[], float]) -> None:
        self._window = window
        self._start = start
        self._clock = clock
        self._events: Events = queue.SimpleQueue()
        self._rpc: _Rpc | None = None

    def outcomes(
        self, requests: Iterator[classification_pb2.ClassifyRequest | ClientError]
    ) -> Generator[Outcome, None, None]:
        """Yield one outcome for each of ``requests``, in their order; end the RPC when closed or exhausted."""
        window = self._window
        exhausted = False
        input_error: Exception | None = None
        # After each outcome one image is read first, so that the window stays full while the consumer works.
        read_first = True
        try:
            while len(window) or not exhausted:
                self._exchange()
                ready = window.ready(self._clock())
                if window.room and not exhausted and (read_first or not ready):
                    read_first = False
                    try:
                        exhausted = not self._read(requests)
                    except Exception as error:  # noqa: BLE001 - raised below, after what came before it
                        input_error, exhausted = error, True
                elif (outcome := window.take(self._clock())) is not None:
                    read_first = True
                    yield outcome
                else:
                    self._wait()
            if self._rpc is not None and not window.abandoned:
                self._rpc.finish(self._events)
        finally:
            if self._rpc is not None:
                self._rpc.cancel()
        if input_error is not None:
            raise input_error

    def _read(self, requests: Iterator[classification_pb2.ClassifyRequest | ClientError]) -> bool:
        request = next(requests, None)
        if isinstance(request, ClientError):
            self._window.add_failed(request)
        elif request is not None:
            self._window.add(request, self._clock())
        return request is not None

    def _exchange(self) -> None:
        while True:
            try:
                self._apply(self._events.get_nowait())
            except queue.Empty:
                break
        for message in self._window.due(self._clock()):
            if self._rpc is None:
                self._rpc = _Rpc(self._start, self._events)
            self._rpc.send(message)

    def _wait(self) -> None:
        wake = self._window.next_wake()
        timeout = 0.0 if wake is None else max(wake - self._clock(), 0.0)
        try:
            self._apply(self._events.get(timeout=timeout))
        except queue.Empty:
            return

    def _apply(self, event: classification_pb2.ClassifyStreamResponse | ClientError) -> None:
        if isinstance(event, ClientError):
            if self._rpc is not None:
                self._rpc.cancel()
            self._rpc = None
            self._window.broken(event, self._clock())
        else:
            self._window.answered(event, self._clock())


class _Rpc:
    """One ClassifyStream call. Its last event is a `ClientError`: why it ended."""

    def __init__(self, start: StartCall, events: Events) -> None:
        self._outbox: queue.SimpleQueue[classification_pb2.ClassifyStreamRequest | None] = queue.SimpleQueue()
        self._call = start(iter(self._outbox.get, None))
        threading.Thread(target=_deliver, args=(self._call, events), name="repserve-stream", daemon=True).start()

    def send(self, message: classification_pb2.ClassifyStreamRequest) -> None:
        self._outbox.put(message)

    def finish(self, events: Events) -> None:
        """End the requests, and give the server a moment to end the call itself."""
        self._outbox.put(None)
        try:
            while not isinstance(events.get(timeout=END_TIMEOUT), ClientError):
                pass
        except queue.Empty:
            return

    def cancel(self) -> None:
        """End the call, and the thread of gRPC that waits for requests to send."""
        self._call.cancel()  # type: ignore[no-untyped-call]
        self._outbox.put(None)


def _deliver(call: Call, events: Events) -> None:
    try:
        for response in call:
            events.put(response)
    except grpc.RpcError as error:
        events.put(from_rpc_error(error))
    else:
        events.put(UnavailableError(ENDED_EARLY))
