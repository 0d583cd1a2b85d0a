"""Checks and distances shared by the measures."""

from collections.abc import Iterator

import numpy as np


def check_features(*sets: np.ndarray, least: int = 1) -> list[np.ndarray]:
    """Converts sets of vectors to float64.

    Args:
        *sets: Arrays ``[N, D]`` with a common ``D``.
        least: Number of rows that each must have at least.

    Returns:
        The sets in their order, float64.

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


def centred(x: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Subtracts the mean of the first set from all sets.

    Products and squares of large numbers have few digits left for the differences of points.

    Args:
        x: Points, ``[N, D]``.
        *others: Further sets of points, ``[M, D]``.

    Returns:
        The sets about a common centre.
    """
    centre = x.mean(0)
    return [points - centre for points in (x, *others)]


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of all pairs of many points of many dimensions.

    The points are to be :func:`centred`.

    Args:
        x: Points, ``[N, D]``.
        y: Points, ``[M, D]``.

    Returns:
        Squared distances, ``[N, M]``, not below 0.
    """
    # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, which rounding can take below 0.
    squared = (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2.0 * (x @ y.T)
    return np.maximum(squared, 0.0)


def chunks(count: int, size: int = 1024) -> Iterator[slice]:
    """Consecutive slices of at most ``size`` rows.

    Args:
        count: Number of rows in all.
        size: Largest number of rows of a slice.

    Yields:
        The slices, which together cover all rows.
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
