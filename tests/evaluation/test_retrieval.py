"""Retrieval by embeddings, against a ranking that is written out."""

import numpy as np
import pytest

from genjax import evaluation


def by_hand(queries, candidates, k, query_ids, candidate_ids):
    """The share of queries whose k most similar candidates have their id, one by one."""
    hits = 0
    for row, own in zip(queries, query_ids, strict=True):
        cosines = [row @ c / np.linalg.norm(row) / np.linalg.norm(c) for c in candidates]
        hits += own in np.asarray(candidate_ids)[np.argsort(cosines)[::-1][:k]]
    return hits / len(queries)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_retrieval_is_that_of_a_sorted_list(k):
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(20, 5)) * rng.uniform(0.1, 10, (20, 1))
    query_ids, candidate_ids = rng.integers(0, 8, 1500), np.arange(20) % 8
    queries = candidates[query_ids] + rng.normal(size=(1500, 5))
    found = evaluation.retrieval_at_k(
        queries, candidates, k, query_ids=query_ids, candidate_ids=candidate_ids
    )
    assert found == by_hand(queries, candidates, k, query_ids, candidate_ids)
    assert (found == 1.0) == (k == 20) and found > 0.2


def test_rows_belong_to_each_other_without_ids():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(30, 4))
    assert evaluation.retrieval_at_k(images, 3.0 * images) == 1.0
    assert evaluation.retrieval_at_k(images, -images) == 0.0
    assert evaluation.retrieval_at_k(images, np.roll(images, 1, axis=0)) == 0.0
    np.testing.assert_array_equal(
        evaluation.retrieval_at_k(images, -images, 30), 1.0
    )  # all are looked at


def test_what_has_collapsed_finds_nothing_and_what_recurs_is_found():
    same = np.ones((10, 3))
    assert evaluation.retrieval_at_k(same, same) == 0.0
    # All candidates are the one that was asked for.
    ones = np.zeros(10, int)
    assert evaluation.retrieval_at_k(same, same, query_ids=ones, candidate_ids=ones) == 1.0


TWO, THREE = np.ones((2, 4)), np.ones((3, 4))


@pytest.mark.parametrize("arguments, message", [
    (dict(queries=TWO, candidates=THREE), "expected as many of both, got 2 and 3"),
    (dict(queries=TWO, candidates=TWO, k=3), "k must be from 1 to the 2 candidates, got 3"),
    (dict(queries=TWO, candidates=TWO, k=0), "k must be from 1"),
    (dict(queries=TWO, candidates=TWO, query_ids=[0, 1]), "or neither"),
    (dict(queries=TWO, candidates=THREE, query_ids=[0, 1], candidate_ids=[0, 1]), r"\[2\] and"),
    (dict(queries=TWO, candidates=TWO, query_ids=[0, 7], candidate_ids=[0, 1]), "the id 7"),
    (dict(queries=TWO, candidates=0 * TWO), "candidates: an embedding of length 0"),
    (dict(queries=TWO, candidates=np.ones((2, 5))), "with the same D"),
])  # fmt: skip
def test_what_cannot_be_ranked_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.retrieval_at_k(**arguments)
