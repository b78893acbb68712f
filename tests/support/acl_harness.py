"""The NPU backend on the stand-in, for its tests."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.backends.acl import AclBackend
from repserve_server.backends.base import BackendOptions
from repserve_server.imaging.model_input import write_encoded
from repserve_server.imaging.preprocessing import Preprocessing
from support.harness import digit_files
from support.standin_models import standin_loaded, violations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray


@contextmanager
def loaded(tmp_path: Path, folder: Path, max_batch_size: int = 16, **standin: str) -> Iterator[AclBackend]:
    """The models of a folder on the stand-in; no rule of the contract is broken meanwhile."""
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    with standin_loaded(state=str(state), **standin):
        backend = AclBackend(BackendOptions("npu:0", folder, max_batch_size=max_batch_size))
        try:
            yield backend
        finally:
            backend.close()
    assert violations(state) == []


def pixels(count: int) -> NDArray[np.uint8]:
    images = np.empty((count, 224, 224, 3), np.uint8)
    for image, file in zip(images, digit_files(), strict=False):
        write_encoded(file.read_bytes(), Preprocessing(), image, max_pixels=10**6)
    return images
