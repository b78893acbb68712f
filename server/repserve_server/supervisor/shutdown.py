"""How the server ends: not ready first, then drained, then stopped."""

from __future__ import annotations

import logging
import signal
from enum import IntEnum, auto
from typing import TYPE_CHECKING

from repserve_server.supervisor.kept_process import STOP_SECONDS, Wish

if TYPE_CHECKING:
    from repserve_server.supervisor.fleet import Fleet
    from repserve_server.supervisor.kept_process import Context

logger = logging.getLogger(__name__)


class Stage(IntEnum):
    """How far the server is on its way out."""

    SERVING = auto()
    LEAVING = auto()
    """Not ready for load balancers; requests are taken all the same."""
    DRAINING = auto()
    """New requests are refused, those under way are answered."""
    STOPPING_FRONTENDS = auto()
    STOPPING_WORKERS = auto()
    STOPPED = auto()


class Shutdown:
    """Goes from stage to stage; on the first signal, or when there is nothing to serve.

    Attributes:
        stage: the present one.
        status: the exit status: 0 when every request that was taken was answered.
    """

    def __init__(self, context: Context, fleet: Fleet) -> None:
        self._context, self._fleet = context, fleet
        self.stage = Stage.SERVING
        self.status = 0
        self._signals = 0
        self._due: float | None = None

    @property
    def frontend_wish(self) -> Wish:
        """What is to become of frontends."""
        if self.stage < Stage.DRAINING:
            return Wish.RUN
        return Wish.FINISH if self.stage is Stage.DRAINING else Wish.STOP

    @property
    def worker_wish(self) -> Wish:
        """What is to become of workers: they go on, and are restarted, until every frontend is drained."""
        if self.stage < Stage.STOPPING_FRONTENDS:
            return Wish.RUN
        return Wish.FINISH if self.stage is Stage.STOPPING_FRONTENDS else Wish.STOP

    def take_signal(self, number: signal.Signals) -> None:
        """Begin to end; a second signal skips the waiting."""
        logger.info("got %s", number.name)
        self._signals += 1
        if self.stage is not Stage.SERVING:
            return
        seconds = self._context.wanted.settings.shutdown_delay_seconds if number is signal.SIGTERM else 0.0
        if seconds:
            logger.info("not ready any more; requests are taken for another %.1f s", seconds)
        self._enter(Stage.LEAVING, seconds)

    def stop(self) -> None:
        """End without a drain, with status 1."""
        if self.stage < Stage.STOPPING_FRONTENDS:
            self.status = 1
            self._enter(Stage.STOPPING_FRONTENDS, 2 * STOP_SECONDS)

    def reconcile(self) -> None:
        """Go to the next stage where the present one has come to its end."""
        while self._advance():
            pass
        for frontend in self._fleet.frontends:
            frontend.wish = self.frontend_wish
            if self.stage is Stage.LEAVING:
                frontend.become_unready()

    def next_due(self) -> float | None:
        """When the present stage has come to its end, whatever happens."""
        return self._due

    def _advance(self) -> bool:
        over = self._due is not None and self._context.clock() >= self._due
        frontends, workers = self._fleet.frontends, self._fleet.workers
        match self.stage:
            case Stage.LEAVING if over or self._signals > 1:
                logger.info("draining: new requests are refused, those under way are answered")
                self._enter(Stage.DRAINING, self._context.wanted.settings.exit_timeout_seconds)
                for frontend in frontends:
                    frontend.drain()
            case Stage.DRAINING if all(frontend.drained for frontend in frontends):
                self._finish_drain(lost=any(frontend.lost for frontend in frontends))
            case Stage.DRAINING if over or self._signals > 1:
                limit = self._context.wanted.settings.exit_timeout_seconds
                why = "a second signal" if self._signals > 1 else f"{limit:.0f} s"
                logger.error("the drain ended after %s with requests unanswered", why)
                self.stop()
            case Stage.STOPPING_FRONTENDS if over or all(frontend.child is None for frontend in frontends):
                self._enter(Stage.STOPPING_WORKERS, 2 * STOP_SECONDS)
            case Stage.STOPPING_WORKERS if over or all(worker.child is None for _, worker in workers):
                self._enter(Stage.STOPPED, None)
            case _:
                return False
        return True

    def _finish_drain(self, *, lost: bool) -> None:
        if lost:
            logger.error("a frontend died during the drain; its requests are lost")
            self.stop()
            return
        logger.info("drained: every request under way was answered")
        self._enter(Stage.STOPPING_FRONTENDS, 2 * STOP_SECONDS)

    def _enter(self, stage: Stage, seconds: float | None) -> None:
        self.stage = stage
        self._due = None if seconds is None else self._context.clock() + seconds
