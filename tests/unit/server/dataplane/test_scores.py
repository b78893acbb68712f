"""Ranking against numpy: order, softmax, top_k, and scores that are not numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repserve_server.dataplane.scores import BatchScores, ImageScores
from repserve_server.errors import InferenceError


@st.composite
def distinct_scores(draw: st.DrawFn) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Rows of scores without ties."""
    images, classes = draw(st.integers(1, 16)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = np.stack([generator.permutation(classes) for _ in range(images)])
    return (rows * draw(st.sampled_from([0.01, 0.5, 3.0])) - 5).astype(np.float32)


@given(scores=distinct_scores(), top_k=st.integers(1, 50))
def test_logits_are_ranked_as_by_argsort_and_softmax(
    scores: np.ndarray[tuple[int, int], np.dtype[np.float32]], top_k: int
) -> None:
    batch = BatchScores(scores, "logits")
    for row, values in enumerate(scores.astype(np.float64)):
        indices, probabilities = batch.rank(row, top_k)
        order = np.argsort(-values, kind="stable")[:top_k]
        softmax = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
        assert indices == order.tolist()
        np.testing.assert_allclose(probabilities, softmax[order], rtol=1e-5, atol=1e-12)
        assert all(0.0 <= probability <= 1.0 for probability in probabilities)


@given(scores=distinct_scores(), first=st.integers(1, 20), second=st.integers(1, 20))
def test_a_longer_ranking_begins_with_the_shorter(
    scores: np.ndarray[tuple[int, int], np.dtype[np.float32]], first: int, second: int
) -> None:
    batch = BatchScores(scores, "logits")
    long, short = batch.rank(0, max(first, second)), batch.rank(0, min(first, second))
    assert long[0][: len(short[0])] == short[0]
    assert long[1][: len(short[1])] == short[1]


def test_probabilities_are_passed_through() -> None:
    scores = np.array([[0.1, 0.6, 0.3]], np.float32)
    indices, probabilities = BatchScores(scores, "probabilities").rank(0, 2)
    assert indices == [1, 2]
    assert probabilities == [pytest.approx(0.6), pytest.approx(0.3)]


def test_large_logits_do_not_overflow() -> None:
    indices, probabilities = BatchScores(np.array([[3e38, -3e38, 0.0]], np.float32), "logits").rank(0, 3)
    assert indices == [0, 2, 1]
    assert probabilities == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("output", ["logits", "probabilities"])
@pytest.mark.parametrize(
    "bad",
    [
        np.nan,
        np.inf,
        pytest.param(-np.inf, id="minus_infinity"),
    ],
)
def test_a_score_that_is_no_number_fails_its_own_image_only(output: str, bad: float) -> None:
    if output == "logits" and bad == -np.inf:
        pytest.skip("a logit of minus infinity is a probability of 0")
    scores = np.tile(np.array([0.25, 0.26, 0.27, 0.28], np.float32), (3, 1))
    scores[1, 2] = bad
    batch = BatchScores(scores, "logits" if output == "logits" else "probabilities")
    with pytest.raises(InferenceError, match="not all finite"):
        batch.rank(1, 1)
    assert batch.rank(0, 1)[0] == [3]
    assert batch.rank(2, 4)[0] == [3, 2, 1, 0]


def test_the_lowest_of_equal_classes_comes_first() -> None:
    """As numpy's argmax has it, and so the guide's accuracy scripts."""
    assert BatchScores(np.zeros((1, 40), np.float32), "logits").rank(0, 3)[0] == [0, 1, 2]


def test_an_image_asks_for_its_own_row() -> None:
    batch = BatchScores(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), "logits")
    assert ImageScores(batch, 0, 2, 0.0, 0.0).rank(1)[0] == [0]
    assert ImageScores(batch, 1, 2, 0.0, 0.0).rank(1)[0] == [1]
