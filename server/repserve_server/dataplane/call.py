"""Who asks for a classification, by when the answer must be there, and how urgent it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from repserve_server.channel.messages import Priority

if TYPE_CHECKING:
    from repserve_server.dataplane.tracing import RequestSpan


@dataclass(frozen=True, slots=True)
class Call:
    """What a protocol knows of a request besides its images.

    Attributes:
        deadline: when the answer must be there, in seconds of ``time.monotonic``.
        client: whom to be fair to, such as the address of a connection; all calls without one are one client.
        priority: which requests go first while images wait.
        span: takes what the request goes through, where it is traced.
    """

    deadline: float
    client: str = ""
    priority: Priority = Priority.NORMAL
    span: RequestSpan | None = None
