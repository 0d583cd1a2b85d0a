"""Checks and distances shared by the measures."""

from collections.abc import Iterator

import numpy as np


def check_features(*sets: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """Converts sets of vectors to float64.

    Args:
        *sets: Arrays ``[N, D]`` with a common ``D``.
        least: Rows each must have.

    Returns:
        The sets.

    Raises:
        ValueError: If ranks, widths or numbers of rows do not fit, or values are not finite.
    """
    arrays = [np.asarray(s, np.float64) for s in sets]
    shapes = ", ".join(str(a.shape) for a in arrays)
    if any(a.ndim != 2 for a in arrays) or len({a.shape[1] for a in arrays}) > 1:
        raise ValueError(f"expected arrays [N, D] with the same D, got shapes {shapes}")
    if min(len(a) for a in arrays) < least:
        raise ValueError(f"expected at least {least} rows in each set, got shapes {shapes}")
    if not all(np.isfinite(a).all() for a in arrays):
        raise ValueError("features hold values that are not finite")
    return arrays


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of all pairs, ``[N, D], [M, D] -> [N, M]``."""
    squared = (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2.0 * (x @ y.T)
    return np.maximum(squared, 0.0)


def chunks(count: int, size: int = 1024) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
