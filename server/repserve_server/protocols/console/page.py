"""The page for people: what is served, how it is doing, and what it says of an image."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from repserve_server.channel.model_info import ModelInfo
    from repserve_server.protocols.http.routes import Handler
    from repserve_server.protocols.kserve.core import InferenceCore

STATE_PATH = "/page/state"
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
    """One file, and the state that its script asks for once a second; images go to KServe v2 as from any client."""

    def __init__(self, core: InferenceCore) -> None:
        self._core = core
        self._html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")

    def table(self) -> list[tuple[str, str, Handler]]:
        """Every route: method, path, handler."""
        return [("GET", "/", self.page), ("GET", STATE_PATH, self.state)]

    async def page(self, _: web.Request) -> web.Response:
        """The page itself."""
        return web.Response(text=self._html, content_type="text/html", headers=HEADERS)

    async def state(self, _: web.Request) -> web.Response:
        """The models, and the counts from which the page makes rates."""
        figures = await self._core.administration.figures(FIGURES)
        content = {
            "server": f"repserve {version('repserve')}",
            "ready": self._core.ready(),
            "model_control_mode": figures.model_control_mode,
            "seconds": figures.seconds,
            "samples": figures.samples,
            "models": [_describe(info) for info in self._core.models()],
        }
        return web.json_response(content, headers={"Cache-Control": "no-store"})


def _describe(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "version": info.version,
        "state": info.state,
        "reason": info.reason,
        "caution": info.caution,
        "classes": info.classes,
        "max_batch_size": info.max_batch_size,
        "output": info.output_name,
        "takes_images": "IMAGE" in info.offered,
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
