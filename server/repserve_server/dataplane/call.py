"""A call to the dataplane: its deadline, its client and its priority."""

from __future__ import annotations

from dataclasses import dataclass

from repserve_server.channel.messages import Priority


@dataclass(frozen=True, slots=True)
class Call:
    """What a protocol knows of a request besides its images.

    Attributes:
        deadline: when the answer must be there, in seconds of ``time.monotonic``.
        client: whom to be fair to, such as the address of a connection; all calls without one are one client.
        priority: which requests go first while images wait.
    """

    deadline: float
    client: str = ""
    priority: Priority = Priority.NORMAL
