"""Wasserstein distances between point clouds, by POT (Python Optimal Transport)."""

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import rel_entr

from genjax.evaluation.arrays import centred, check_features

MOST_ROUNDS = 20_000
"""After which an entropic plan is given up."""


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

    cost = _costs(x, y, p)
    total = ot.emd2(ot.unif(cost.shape[0]), ot.unif(cost.shape[1]), cost, numItermax=10_000_000)
    # Rounding can leave the cost of equal sets below 0, which has no root.
    return float(max(total, 0.0) ** (1.0 / p))


def transport_plan(
    x: np.ndarray, y: np.ndarray, *, p: int = 2, regularization: float = 0.0
) -> tuple[np.ndarray, float]:
    r"""Optimal transport plan of two sets of equally weighted points, exact or entropic.

    Args:
        x: Points, ``[N, D]``.
        y: Points, ``[M, D]``.
        p: Power of the Euclidean distance that is transported, 1 or 2.
        regularization: Weight :math:`\varepsilon` of the entropy, in the units of the cost; 0 for
            the exact plan. A small part of the mean cost takes many iterations.

    Returns:
        The plan :math:`\pi`, ``[N, M]``, which minimises :math:`\langle \pi, C\rangle +
        \varepsilon\,KL(\pi \,\|\, a b^T)`, with rows that sum to 1/N and columns that sum to 1/M;
        and its cost :math:`\langle \pi, C\rangle`, which of N = M points is above the exact one by
        :math:`\varepsilon \log N` at most.

    Raises:
        ValueError: If an argument is out of range, widths differ, or the iteration has not
            converged after 20,000 rounds, to an error of the column sums below 1e-5.

    Example:
        >>> plan, cost = transport_plan(np.array([[0.0], [1.0]]), np.array([[1.5], [0.5]]))
        >>> (2 * plan).tolist(), cost
        ([[0.0, 1.0], [1.0, 0.0]], 0.25)

    References:
        Cuturi, Sinkhorn Distances, arXiv:1306.0895; in the domain of logarithms, Schmitzer,
        arXiv:1610.06519.
    """
    cost = _costs(x, y, p)
    plan = _plan(cost, regularization)
    return plan, float((plan * cost).sum())


def sinkhorn_divergence(
    x: np.ndarray, y: np.ndarray, *, regularization: float, p: int = 2
) -> float:
    r"""Entropic transport cost of two sets of points less that of each with itself.

    Args:
        x: Points, ``[N, D]``.
        y: Points, ``[M, D]``.
        regularization: Weight :math:`\varepsilon > 0` of the entropy, in the units of the cost.
        p: Power of the Euclidean distance that is transported, 1 or 2.

    Returns:
        :math:`OT_\varepsilon(x, y) - \frac12 OT_\varepsilon(x, x) - \frac12 OT_\varepsilon(y, y)`:
        0 for equal sets, which the entropic cost is not; it goes to :math:`W_p^p` with the weight.

    Raises:
        ValueError: If an argument is out of range or widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(20, 2))
        >>> abs(sinkhorn_divergence(x, x, regularization=1.0)) < 1e-9
        True

    References:
        Genevay et al., arXiv:1706.00292; Feydy et al., arXiv:1810.08278.
    """
    if not regularization > 0:
        raise ValueError(f"regularization must be positive, got {regularization}")

    def entropic(a: np.ndarray, b: np.ndarray) -> float:
        cost = _costs(a, b, p)
        plan = _plan(cost, regularization)
        # KL from the product of uniform weights.
        return float((plan * cost).sum() + regularization * rel_entr(plan, 1.0 / plan.size).sum())

    return entropic(x, y) - 0.5 * entropic(x, x) - 0.5 * entropic(y, y)


def _costs(x: np.ndarray, y: np.ndarray, p: int) -> np.ndarray:
    """Costs of all pairs of points, ``[N, M]``."""
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")
    x, y = check_features(x, y)
    # From differences of points, not from their squares, which far from 0 have no digits left for
    # small distances.
    return cdist(x, y, "euclidean" if p == 1 else "sqeuclidean")


def _plan(cost: np.ndarray, regularization: float) -> np.ndarray:
    """The plan between uniform weights."""
    import ot

    if not regularization >= 0:
        raise ValueError(f"regularization must not be negative, got {regularization}")
    weights = ot.unif(cost.shape[0]), ot.unif(cost.shape[1])
    if not regularization:
        return np.asarray(ot.emd(*weights, cost, numItermax=10_000_000))
    plan, log = ot.bregman.sinkhorn_log(
        *weights, cost, regularization, numItermax=MOST_ROUNDS, stopThr=1e-8, log=True, warn=False
    )
    if not log["err"] or not log["err"][-1] < 1e-5:
        raise ValueError(
            f"the entropic plan has not converged: {regularization} is too small beside the mean "
            f"cost {cost.mean():.3g}; raise regularization or set it to 0 for the exact plan"
        )
    return np.asarray(plan)


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
