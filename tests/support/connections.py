"""What the tests of both clients share: connecting with either, numbered images and what became of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from repserve_client import AsyncClient, Classification, Client, ClientError
from support.fake_server import Refusal, default_answer

if TYPE_CHECKING:
    from repserve_protos.v1.classification_pb2 import ClassifyRequest, ClassifyResponse

Connect = Callable[..., Client]
WAIT_SECONDS = 20.0


class Blocking:
    """Lets an `AsyncClient` be used as if it were a `Client`, so that one test serves both."""

    def __init__(self, client: AsyncClient) -> None:
        self._runner = asyncio.Runner()
        self._client = client

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._runner.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def classify_stream(self, images: Iterable[bytes], **options: object) -> Iterator[Classification | ClientError]:
        outcomes = self._client.classify_stream(images, **options)  # type: ignore[arg-type]

        async def following() -> Classification | ClientError | None:
            return await anext(outcomes, None)

        try:
            while (outcome := self._runner.run(following())) is not None:
                yield outcome
        finally:
            self._runner.run(outcomes.aclose())


def images(count: int) -> list[bytes]:
    """Images whose class at the fake server is their place."""
    return [b"x" * (10 + number) for number in range(count)]


def indices(outcomes: Iterable[Classification | ClientError]) -> list[int | str]:
    return [
        outcome.predictions[0].best.index if isinstance(outcome, Classification) else outcome.code
        for outcome in outcomes
    ]


def size(request: ClassifyRequest) -> int:
    return len(request.encoded_image) - 10


def first_times(count: int, error: Refusal) -> Callable[[ClassifyRequest], ClassifyResponse]:
    """A script that raises ``error`` the first ``count`` times."""
    turns = itertools.count()

    def script(request: ClassifyRequest) -> ClassifyResponse:
        if next(turns) < count:
            raise error
        return default_answer(request)

    return script
