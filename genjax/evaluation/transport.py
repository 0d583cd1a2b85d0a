"""Wasserstein distances between point clouds, by POT (Python Optimal Transport)."""

import numpy as np
from scipy.spatial.distance import cdist

from genjax.evaluation.arrays import centred, check_features


def wasserstein_distance(x: np.ndarray, y: np.ndarray, *, p: int = 1) -> float:
    r"""Exact Wasserstein distance of two sets of equally weighted points.

    The cost grows with the cube of the number of points: seconds for 2,000.

    Args:
        x: Points, ``[N, D]``.
        y: Points, ``[M, D]``.
        p: Power of the Euclidean distance that is transported, 1 or 2.

    Returns:
        :math:`(\min \sum \pi_{ij} \lVert x_i - y_j\rVert^p)^{1/p}`, in the units of the points.

    Raises:
        ValueError: If ``p`` is neither 1 nor 2, or widths differ.

    Example:
        >>> round(wasserstein_distance(np.zeros((3, 2)), np.ones((3, 2))), 6)
        1.414214

    References:
        Flamary et al., POT: Python Optimal Transport, JMLR 22, 2021.
    """
    import ot

    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")
    x, y = check_features(x, y)
    # From differences of points, not from their squares, which far from 0 have no digits left for
    # small distances.
    cost = cdist(x, y, "euclidean" if p == 1 else "sqeuclidean")
    total = ot.emd2(ot.unif(len(x)), ot.unif(len(y)), cost, numItermax=10_000_000)
    # Rounding can leave the cost of equal sets below 0, which has no root.
    return float(max(total, 0.0) ** (1.0 / p))


def sliced_wasserstein_distance(
    x: np.ndarray, y: np.ndarray, *, num_projections: int = 500, p: int = 2, seed: int = 0
) -> float:
    r"""Wasserstein distance of one-dimensional projections, averaged over random directions.

    Args:
        x: Points, ``[N, D]``.
        y: Points, ``[M, D]``.
        num_projections: Number of directions.
        p: Power of the distance between projections, at least 1.
        seed: Seed of the random directions.

    Returns:
        :math:`(E_\theta W_p^p(\theta^T x, \theta^T y))^{1/p}`.

    Raises:
        ValueError: If widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> sliced_wasserstein_distance(x, x)
        0.0

    References:
        Bonneel et al., Sliced and Radon Wasserstein Barycenters of Measures, 2015.
    """
    import ot

    x, y = centred(*check_features(x, y))
    return float(
        ot.sliced_wasserstein_distance(x, y, n_projections=num_projections, p=p, seed=seed)
    )
