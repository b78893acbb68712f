"""The page for people: what is served, how it is doing, and what it makes of an image."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from repserve_server.protocols.kserve.metadata import IMAGE

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.protocols.http.routing import Route
    from repserve_server.protocols.kserve.core import InferenceCore
    from repserve_server.protocols.kserve.documents import Json

STATE_PATH = "/page/state"
PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
FIGURES = (
    "repserve_images_total",
    "repserve_requests_total",
    "repserve_request_seconds_bucket",
    "repserve_requests_in_flight",
    "repserve_waiting_images",
    "repserve_batch_size_sum",
    "repserve_batch_size_count",
    "repserve_padding_images_total",
    "repserve_device_busy_seconds_total",
)
"""The series that the page shows."""
HEADERS = {
    # The page needs nothing from elsewhere, and nothing may make it.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class PageRoutes:
    """One file, and the state that its script fetches once a second; images go to KServe v2 as from any client."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core

    def table(self) -> list[Route]:
        """Every route."""
        return [("GET", "/", self._page), ("GET", STATE_PATH, self._state)]

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html", headers=HEADERS)

    async def _state(self, _: web.Request) -> web.Response:
        """Answer the models, and the counts from which the page makes rates."""
        figures = await self._core.administration.figures(FIGURES)
        state = {
            "server": f"repserve {version_of('repserve')}",
            "ready": self._core.ready(),
            "model_control_mode": figures.model_control_mode,
            "seconds": figures.seconds,
            "samples": figures.samples,
            "models": [_describe(info) for info in self._core.models()],
        }
        return web.json_response(state, headers={"Cache-Control": "no-store"})


def _describe(info: ModelInfo) -> Json:
    return {
        "name": info.name,
        "version": info.version,
        "state": info.state,
        "reason": info.reason,
        "caution": info.caution,
        "classes": info.classes,
        "max_batch_size": info.max_batch_size,
        "output": info.output_name,
        "takes_images": IMAGE in info.offered,
        "instances": [
            {
                "device": instance.device,
                "backend": instance.backend,
                "precision": instance.precision,
                "simulated": instance.simulated,
            }
            for instance in info.instances
        ],
    }
