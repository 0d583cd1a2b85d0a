"""What is found by vectors."""

import numpy as np
import pytest

from genjax import evaluation

RNG = np.random.default_rng(0)


def test_ranks_are_those_of_a_sorted_list():
    queries, candidates = RNG.normal(size=(20, 3)), RNG.normal(size=(7, 3))
    right = RNG.integers(7, size=20)
    ranks = evaluation.retrieval_ranks(queries, candidates, right)
    for query, own, rank in zip(queries, right, ranks, strict=True):
        assert list(np.argsort(-(candidates @ query))).index(own) == rank
    several = RNG.random((20, 7)) < 0.4
    several[:, 0] = True
    ranks = evaluation.retrieval_ranks(queries, candidates, several)
    for query, own, rank in zip(queries, several, ranks, strict=True):
        assert np.argmax(own[np.argsort(-(candidates @ query))]) == rank


def test_equal_candidates_count_against_the_right_one():
    ranks = evaluation.retrieval_ranks(np.ones((2, 3)), np.ones((4, 3)), np.array([0, 3]))
    np.testing.assert_array_equal(ranks, 3)


def test_prototypes_are_directions_of_means_and_take_any_number_of_texts():
    found = evaluation.prototypes([np.array([[3.0, 4.0]]) / 5, np.eye(2)])
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.5**0.5, 0.5**0.5]])


def test_what_does_not_fit_is_said():
    one = np.ones((2, 3))
    with pytest.raises(
        ValueError, match=r"right: expected positions \[2\] or truth values \[2, 4\]"
    ):
        evaluation.retrieval_ranks(one, np.ones((4, 3)), np.zeros((2, 3), bool))
    with pytest.raises(ValueError, match="each query needs a right candidate"):
        evaluation.retrieval_ranks(one, np.ones((4, 3)), np.array([0, 4]))
    with pytest.raises(ValueError, match="must be finite"):
        evaluation.retrieval_ranks(one * np.nan, one, np.array([0, 0]))
    with pytest.raises(ValueError, match=r"queries \[N, D\] and candidates \[M, D\]"):
        evaluation.retrieval_ranks(one, np.ones((4, 2)), np.array([0, 0]))
    with pytest.raises(ValueError, match="class 1: expected vectors"):
        evaluation.prototypes([one, one[:0]])
    with pytest.raises(ValueError, match="class 0: the mean of its vectors has no direction"):
        evaluation.prototypes([np.array([[1.0, 0.0], [-1.0, 0.0]])])
