"""How requests reach a server: `send` starts one and calls back with its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from repserve_bench.errors import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from repserve_client.errors import ClientError
    from repserve_protos.v1 import classification_pb2 as pb

    Outcome = pb.ClassifyResponse | ClientError
    Done = Callable[[Outcome], None]

TransportName = Literal["stream", "unary", "v2"]
"""ClassifyStream and Classify of repserve.v1, and ModelInfer of KServe v2."""


class Transport(Protocol):
    """The requests of a job and the connections they travel on."""

    async def open(self, connect_timeout: float) -> bool:
        """Serialise the requests and connect.

        Returns:
            Whether every request was serialised in advance; if not, that is part of the measured time.

        Raises:
            PayloadError: An image could not be read.
            LoadError: No server answers.
        """

    def send(self, index: int, time_limit: float, done: Done) -> None:
        """Send the job's ``index``-th request; call it in the loop's thread or from ``done``.

        Args:
            index: Which of the job's groups of samples to send.
            time_limit: Seconds until the request fails with DEADLINE_EXCEEDED.
            done: Called once with the answer or the error, on any thread. Not called once the transport is closed.

        Raises:
            PayloadError: An image could not be read now; ``done`` is not called then.
        """

    async def close(self) -> None:
        """Cancel what is in flight and close the connections."""


def no_answer(address: str) -> LoadError:
    """Return the error for a server that cannot be reached."""
    return LoadError(f"no server answers at {address}: start one, or name another with --server")
