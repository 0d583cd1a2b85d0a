"""Scores of embeddings that were made for texts."""

import numpy as np
import pytest

from genjax import evaluation

RNG = np.random.default_rng(0)


def unit(*shape):
    rows = RNG.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_the_candidate_that_fits_its_text_best_is_kept():
    candidates, texts = unit(3, 10, 4), unit(10, 4)
    found = evaluation.nearest_candidates(candidates, texts)
    for i, text in enumerate(texts):
        best = max(candidates[:, i], key=lambda made, text=text: made @ text)
        np.testing.assert_array_equal(found[i], best)
    np.testing.assert_array_equal(evaluation.nearest_candidates(candidates[:1], texts),
                                  candidates[0])  # fmt: skip


def test_images_themselves_have_no_distance_and_a_mean_has():
    real = unit(50, 4)
    texts = real[:5]
    right = (real @ texts.T).argmax(axis=1)
    found = evaluation.embedding_scores(real, real, texts, right)
    assert found["retrieval_at_1"] == 1.0
    assert abs(found["frechet_distance"]) < 1e-8 and found["cosine"] == pytest.approx(1.0)
    mean = np.broadcast_to(unit(1, 4), real.shape)
    other = evaluation.embedding_scores(mean, real, texts, right)
    assert other["frechet_distance"] > 0.5  # the spread, at least, of which a mean has none
    assert other["cosine"] == pytest.approx(np.mean(real @ mean[0]))
    assert other["retrieval_at_1"] == np.mean(right == (texts @ mean[0]).argmax())


def test_what_does_not_fit_is_said():
    with pytest.raises(
        ValueError, match=r"candidates \[K, N, D\] and texts \[N, D\], got \[3, 4\]"
    ):
        evaluation.nearest_candidates(unit(3, 4), unit(3, 4))
    with pytest.raises(ValueError, match=r"an embedding for each image, got \[3, 4\] and \[2, 4\]"):
        evaluation.embedding_scores(unit(3, 4), unit(2, 4), unit(2, 4), np.zeros(3, int))
