"""Scores of images, and the classes ranked by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from repserve_server.errors import InferenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from repserve_server.channel.model_info import Output

_USUAL_TOP_K = 5


class BatchScores:
    """The scores of images that were answered together, float32 [images, classes].

    They are ranked together, when the first of them is needed: one pass of numpy over sixteen rows costs little
    more than over one.
    """

    def __init__(self, scores: NDArray[np.float32], output: Output) -> None:
        self.scores = scores
        self._output = output
        self._top_k = 0
        self._ranked: list[list[int]] = []
        self._probabilities: list[list[float]] = []
        self._finite: list[bool] = []

    def rank(self, row: int, top_k: int) -> tuple[list[int], list[float]]:
        """Rank the ``top_k`` best classes of an image, best first, with their probabilities.

        Softmax is applied where the model gives logits.

        Raises:
            InferenceError: a score is not a number, or is plus infinity (minus infinity is a probability of 0).
        """
        if top_k > self._top_k:
            self._rank_all(top_k)
        if not self._finite[row]:
            raise InferenceError("the model's scores for this image are not all finite numbers; nothing is ranked")
        return self._ranked[row][:top_k], self._probabilities[row][:top_k]

    def _rank_all(self, top_k: int) -> None:
        images, classes = self.scores.shape
        self._top_k = max(top_k, _USUAL_TOP_K)
        kept = min(self._top_k, classes)
        rows = np.arange(images)[:, None]
        best = self.scores.argpartition(classes - kept, axis=1)[:, classes - kept :]
        best.sort(axis=1)
        best = best[rows, (-self.scores[rows, best]).argsort(axis=1, kind="stable")]
        probabilities = self.scores[rows, best]
        if np.count_nonzero(self.scores >= probabilities[:, -1:]) > images * kept:
            # Equal scores at the last place: the partition took any of them, but the lower index must win.
            best = (-self.scores).argsort(axis=1, kind="stable")[:, :kept]
            probabilities = self.scores[rows, best]
        with np.errstate(invalid="ignore", over="ignore"):
            if self._output == "logits":
                # Nothing is greater than the best score, unless a score is not a number.
                highest = probabilities[:, :1]
                shares = self.scores - highest
                np.exp(shares, out=shares)
                total = np.add.reduce(shares, axis=1, keepdims=True)
                probabilities = np.exp(probabilities - highest) / total
            else:
                total = np.add.reduce(self.scores, axis=1, keepdims=True)
        self._finite = np.isfinite(total[:, 0]).tolist()
        self._ranked = best.tolist()
        self._probabilities = probabilities.tolist()


@dataclass(frozen=True, slots=True)
class ImageScores:
    """One image's part of an answered batch.

    ``batch_size`` is the number of images it was run with, padding not counted; times are in seconds, ``finished`` is
    when the run ended, on the clock of CLOCK_MONOTONIC.
    """

    batch: BatchScores
    row: int
    batch_size: int
    queue_seconds: float
    compute_seconds: float
    finished: float = 0.0

    def rank(self, top_k: int) -> tuple[list[int], list[float]]:
        """See ``BatchScores.rank``."""
        return self.batch.rank(self.row, top_k)
