"""Whether embeddings of two kinds, such as images and captions, find each other."""

import numpy as np

from genjax.evaluation.arrays import check_features, chunks


def retrieval_at_k(
    queries: np.ndarray,
    candidates: np.ndarray,
    k: int = 1,
    *,
    query_ids: np.ndarray | None = None,
    candidate_ids: np.ndarray | None = None,
) -> float:
    """Share of queries with a right candidate among the ``k`` most similar ones.

    Similarity is the cosine. A wrong candidate that is exactly as similar as the best right one
    comes before it: embeddings that have all collapsed to one find nothing. (How far two sets of
    embeddings are from each other as distributions, say those that a prior makes from those of
    images, is their :func:`~genjax.evaluation.frechet_distance`.)

    Args:
        queries: Embeddings ``[N, D]``, of any lengths but 0.
        candidates: Embeddings ``[M, D]``, of any lengths but 0.
        k: Number of candidates that are looked at.
        query_ids: What each query is, such as the number of its caption, ``[N]``. Captions recur,
            and every candidate of the same id is a right one.
        candidate_ids: What each candidate is, ``[M]``. Without ids, candidate ``i`` belongs to
            query ``i``, and there are as many of both.

    Returns:
        The share, in [0, 1]. Random embeddings reach ``k / M`` where each query has one right
        candidate.

    Raises:
        ValueError: If shapes do not fit, an embedding is 0 or not finite, ``k`` is not from 1 to
            ``M``, or a query has no right candidate.

    Example:
        >>> images = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0]])
        >>> captions = np.array([[1.0, 0.1], [0.1, 1.0], [1.0, 0.9]])
        >>> retrieval_at_k(images, captions, query_ids=[0, 1, 1], candidate_ids=[0, 1, 2])
        0.6666666666666666

    References:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
        arXiv:2103.00020, whose zero-shot retrieval of images and texts this is.
    """
    asked, offered = check_features(queries, candidates, least=1)
    if (query_ids is None) != (candidate_ids is None):
        raise ValueError("give query_ids and candidate_ids, or neither")
    if query_ids is None or candidate_ids is None:
        if len(asked) != len(offered):
            raise ValueError(
                f"without ids, candidate i belongs to query i: expected as many of both, got "
                f"{len(asked)} and {len(offered)}"
            )
        query_ids = candidate_ids = np.arange(len(asked))
    own, theirs = np.asarray(query_ids), np.asarray(candidate_ids)
    if own.shape != asked.shape[:1] or theirs.shape != offered.shape[:1]:
        raise ValueError(
            f"expected an id for each embedding, [{len(asked)}] and [{len(offered)}], got shapes "
            f"{own.shape} and {theirs.shape}"
        )
    if not 1 <= k <= len(offered):
        raise ValueError(f"k must be from 1 to the {len(offered)} candidates, got {k}")
    if missing := sorted(set(own.tolist()) - set(theirs.tolist())):
        raise ValueError(f"no candidate has the id {missing[0]!r} of a query")
    units = []
    for name, rows in (("queries", asked), ("candidates", offered)):
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        if not length.all():
            raise ValueError(f"{name}: an embedding of length 0 has no direction")
        units.append(rows / length)
    hits = 0
    for part in chunks(len(asked)):
        similar = units[0][part] @ units[1].T
        right = own[part, None] == theirs
        best = np.where(right, similar, -np.inf).max(1, keepdims=True)
        # No right one stands before the best of them.
        hits += int(((~right & (similar >= best)).sum(1) < k).sum())
    return hits / len(asked)
