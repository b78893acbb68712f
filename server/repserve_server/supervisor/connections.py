"""Frontends and workers are introduced to each other: a slot area, and a socket pair for each two."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from repserve_server.channel.frontend_messages import AttachWorker, DetachWorker
from repserve_server.channel.link import link_pair
from repserve_server.channel.worker_messages import AttachFrontend

if TYPE_CHECKING:
    from repserve_server.supervisor.frontends import Frontend
    from repserve_server.supervisor.models import ModelVersion
    from repserve_server.supervisor.workers import Worker


logger = logging.getLogger(__name__)


def connect(frontends: Iterable[Frontend], versions: Iterable[ModelVersion], slots: int) -> None:
    """Connect each frontend that listens with each worker that is ready, where they are not yet.

    A version that retires is not opened any more, but frontends that have images of it need its workers. Both ends are
    made here and handed over, so they have no names, and a new process gets them just as the first one did.

    Args:
        frontends: all of them.
        versions: all that are loaded.
        slots: the slots of an area.
    """
    pairs = [(frontend, version) for frontend in frontends if frontend.listens for version in versions]
    for frontend, version in pairs:
        if version.retiring and version.revision not in frontend.areas:
            continue
        for worker in version.ready_workers:
            if worker.child is None or worker.child.name in frontend.workers:
                continue
            try:
                _connect(frontend, version, worker, slots)
            except OSError as error:
                # Short of file descriptors, mostly: nothing else may wait until there are some.
                logger.error("frontends cannot be connected with workers, trying again: %s", error)  # noqa: TRY400
                return


def disconnect(frontends: Iterable[Frontend], version: ModelVersion, worker: str, *, crashed: bool) -> None:
    """Let the frontends know that a worker has ended: nobody writes to its images any more."""
    for frontend in frontends:
        if frontend.child is not None and worker in frontend.workers:
            frontend.workers.discard(worker)
            frontend.child.send(DetachWorker(revision=version.revision, worker=worker, crashed=crashed))


def _connect(frontend: Frontend, version: ModelVersion, worker: Worker, slots: int) -> None:
    layout = version.layout(slots)
    if frontend.child is None or worker.child is None or worker.ready is None or layout is None:
        return
    area = frontend.open(version, layout, worker.ready.best_image_seconds)
    frontend_end, worker_end = link_pair()
    with frontend_end, worker_end:
        attach = AttachFrontend(frontend=frontend.child.name, layout=layout)
        worker.child.send(attach, [area, worker_end.fileno()])
        frontend.child.send(AttachWorker(revision=version.revision, worker=worker.child.name), [frontend_end.fileno()])
    frontend.workers.add(worker.child.name)
