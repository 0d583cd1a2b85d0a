"""What is found by vectors of images and of texts: classes by what is said of them, captions."""

from collections.abc import Sequence

import numpy as np


def prototypes(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """One vector of each class, of the vectors of texts that say what it is.

    Args:
        embeddings: For each of ``C`` classes vectors of unit length ``[P, D]``; ``P`` may differ.

    Returns:
        Their means, of unit length again, ``[C, D]``.

    Raises:
        ValueError: If a class has no vectors, or they cancel out.

    Example:
        >>> prototypes([np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0]])]).round(3)
        array([[0.707, 0.707],
               [0.   , 1.   ]])

    References:
        Radford et al., arXiv:2103.00020, section 3.1.4: ensembles in the space of vectors.
    """
    found = []
    for number, vectors in enumerate(embeddings):
        rows = np.asarray(vectors, np.float64)
        if rows.ndim != 2 or not len(rows):
            raise ValueError(f"class {number}: expected vectors [P, D], got {list(rows.shape)}")
        mean = rows.mean(axis=0)
        length = np.linalg.norm(mean)
        if not length > 1e-6:
            raise ValueError(f"class {number}: the mean of its vectors has no direction")
        found.append(mean / length)
    return np.stack(found)


def retrieval_ranks(queries: np.ndarray, candidates: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How many wrong candidates are as near to a query as its nearest right one, or nearer.

    Candidates as near as the right one count against it: vectors that are all the same find
    nothing.

    Args:
        queries: Vectors of unit length, ``[N, D]``.
        candidates: Vectors of unit length, ``[M, D]``.
        right: Which candidates are right: the position of one for each query, ``[N]``, or True
            where they are, ``[N, M]``.

    Returns:
        Ranks from 0 on, ``[N]``; the mean of ``rank < k`` is the recall at k.

    Raises:
        ValueError: If shapes do not fit, a vector is not finite, or a query has no right candidate.

    Example:
        >>> retrieval_ranks(np.eye(2), np.array([[0.6, 0.8], [0.0, 1.0]]), np.array([0, 0]))
        array([0, 1])
    """
    queries, candidates = np.asarray(queries, np.float64), np.asarray(candidates, np.float64)
    right = np.asarray(right)
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            "expected queries [N, D] and candidates [M, D], got "
            f"{list(queries.shape)} and {list(candidates.shape)}"
        )
    if not (np.isfinite(queries).all() and np.isfinite(candidates).all()):
        raise ValueError("vectors must be finite")
    shape = (len(queries), len(candidates))
    if right.shape == shape[:1] and right.dtype != bool:
        right = right[:, None] == np.arange(shape[1])
    if right.shape != shape or right.dtype != bool:
        raise ValueError(
            f"right: expected positions [{shape[0]}] or truth values {list(shape)}, got "
            f"{right.dtype} {list(right.shape)}"
        )
    if not right.any(axis=1).all():
        raise ValueError("right: each query needs a right candidate")
    near = queries @ candidates.T
    best = np.where(right, near, -np.inf).max(axis=1, keepdims=True)
    return np.sum(~right & (near >= best), axis=1)
