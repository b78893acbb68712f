"""The shared-memory regions that clients have registered: one table for the server, and each frontend follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from repserve_server.channel.requests import Done, Failure, Region, Reply
from repserve_server.errors import AlreadyExistsError, NotAllowedError, Status

if TYPE_CHECKING:
    from repserve_server.supervisor.fleet import Fleet
    from repserve_server.supervisor.frontends import Frontend
    from repserve_server.supervisor.kept_process import Context

MAX_REGIONS = 1024
CALL_SECONDS = 10.0
"""How long a frontend may take to open or close a region."""


class RegionTable:
    """The regions that are registered. A frontend that starts later gets all of them."""

    def __init__(self, context: Context, fleet: Fleet) -> None:
        self._context, self._fleet = context, fleet
        self._failures: dict[str, tuple[Region, Failure]] = {}

    def register(self, region: Region) -> Callable[[], Done | Failure | None]:
        """Have every frontend open a region; the result is a condition. If one of them cannot, none keeps it.

        Raises:
            AlreadyExistsError: the name is taken.
            NotAllowedError: there are too many.
        """
        regions = self._context.wanted.regions
        if region.name in regions:
            raise AlreadyExistsError(f"shared memory region {region.name!r} is registered already; unregister it first")
        if len(regions) >= MAX_REGIONS:
            raise NotAllowedError(f"{MAX_REGIONS} shared memory regions are registered, and no more may be")
        regions[region.name] = region
        self._failures.pop(region.name, None)
        deadline = self._context.clock() + CALL_SECONDS

        def registered() -> Done | Failure | None:
            failed, failure = self._failures.get(region.name, (None, None))
            response = failure if failed is region else self._response({region.name}, deadline)
            if isinstance(response, Failure) and regions.get(region.name) is region:
                del regions[region.name]
                self._failures.pop(region.name, None)
            return response

        return registered

    def unregister(self, name: str) -> Callable[[], Done | Failure | None]:
        """Have every frontend close a region, or all for the empty name; an unknown one is no error."""
        regions = self._context.wanted.regions
        names = {name} if name else set(regions)
        for known in names:
            regions.pop(known, None)
        deadline = self._context.clock() + CALL_SECONDS
        return lambda: self._response(names, deadline)

    def take_reply(self, frontend: Frontend, reply: Reply) -> None:
        """Note whether a frontend could open or close a region."""
        name, region = frontend.calls.pop(reply.number)
        if (
            isinstance(reply.response, Failure)
            and region is not None
            and self._context.wanted.regions.get(name) is region
        ):
            self._failures[name] = region, reply.response

    def reconcile(self) -> None:
        """Have frontends open and close what they have not yet, those that are starting too."""
        for frontend in self._fleet.frontends:
            frontend.update_regions()

    def _response(self, names: set[str], deadline: float) -> Done | Failure | None:
        """Whether every frontend has done it; one that has ended meanwhile does not count."""
        waiting = [frontend.label for frontend in self._fleet.frontends if not self._has_done(frontend, names)]
        if not waiting:
            return Done()
        if self._context.clock() < deadline:
            return None
        message = f"no answer from {', '.join(waiting)} within {CALL_SECONDS:.0f} s"
        return Failure(status=Status.UNAVAILABLE, message=message)

    def _has_done(self, frontend: Frontend, names: set[str]) -> bool:
        wanted = self._context.wanted.regions
        sent = all(frontend.regions.get(name) == wanted.get(name) for name in names)
        return frontend.child is None or (sent and not any(name in names for name, _ in frontend.calls.values()))
