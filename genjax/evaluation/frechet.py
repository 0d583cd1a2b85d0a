r"""Fréchet distance between Gaussians fitted to features (with Inception's features, FID)."""

import numpy as np

from genjax.evaluation.arrays import check_features


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of features.

    Args:
        features: Features, ``[N, D]``, at least two rows.

    Returns:
        Mean ``[D]`` and covariance ``[D, D]`` (divided by ``N - 1``), float64.

    Raises:
        ValueError: If there are fewer than two rows.
    """
    (x,) = check_features(features, least=2)
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def frechet_distance_of_moments(
    mean_1: np.ndarray, covariance_1: np.ndarray, mean_2: np.ndarray, covariance_2: np.ndarray
) -> float:
    r"""Fréchet distance of two Gaussians.

    .. math::
        \lVert\mu_1 - \mu_2\rVert^2
            + \mathrm{tr}\left(S_1 + S_2 - 2 (S_1^{1/2} S_2 S_1^{1/2})^{1/2}\right)

    The trace of the root is the sum of the roots of the eigenvalues of a symmetric matrix, so it is
    real, and singular covariances need nothing added to their diagonal.

    Args:
        mean_1: Mean of the first Gaussian, ``[D]``.
        covariance_1: Its covariance, ``[D, D]``, symmetric and positive semidefinite.
        mean_2: Mean of the second Gaussian, ``[D]``.
        covariance_2: Its covariance, ``[D, D]``, symmetric and positive semidefinite.

    Returns:
        The squared distance, as FID is reported.

    Raises:
        ValueError: If shapes do not fit.

    Example:
        >>> one, zero = np.eye(2), np.zeros(2)
        >>> round(frechet_distance_of_moments(zero, one, zero + 1.0, 4.0 * one), 6)
        4.0

    References:
        Dowson and Landau, 1982; Heusel et al., arXiv:1706.08500, eq. 6.
    """
    arrays = [np.asarray(a, np.float64) for a in (mean_1, covariance_1, mean_2, covariance_2)]
    mean_1, covariance_1, mean_2, covariance_2 = arrays
    size = mean_1.shape[0] if mean_1.ndim == 1 else -1
    if [a.shape for a in arrays] != [(size,), (size, size)] * 2:
        raise ValueError(
            f"expected means [D] and covariances [D, D], got {[a.shape for a in arrays]}"
        )
    # The symmetric root of S_1. Eigenvalues below 0 are rounding: a covariance has none.
    values, vectors = np.linalg.eigh(covariance_1)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = root @ covariance_2 @ root
    # Made symmetric, which rounding has undone and eigvalsh takes for granted.
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh(0.5 * (product + product.T)), 0.0))
    traces = np.trace(covariance_1) + np.trace(covariance_2)
    # Rounding may leave a little less than the 0 of equal moments.
    return max(0.0, float(np.square(mean_1 - mean_2).sum() + traces - 2.0 * roots.sum()))


def frechet_distance(features_1: np.ndarray, features_2: np.ndarray) -> float:
    r"""Fréchet distance of the Gaussians fitted to two sets of features.

    Biased upwards where there are few rows: always say how many. With fewer rows than dimensions
    the trace of the root is the nuclear norm of the product of the centred features, which never
    forms a covariance.

    Args:
        features_1: Features of one set, ``[N, D]``, at least two rows.
        features_2: Features of the other, ``[M, D]``, at least two rows.

    Returns:
        The squared distance, as FID is reported.

    Raises:
        ValueError: If a set has fewer than two rows or widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> round(frechet_distance(x, x + 2.0), 6)
        12.0
    """
    x, y = check_features(features_1, features_2, least=2)
    if max(len(x), len(y)) >= x.shape[1]:
        return frechet_distance_of_moments(*moments(x), *moments(y))
    # With S_1 = X^T X and S_2 = Y^T Y the eigenvalues of S_1^(1/2) S_2 S_1^(1/2) are the squared
    # singular values of X Y^T, so that the trace of the root is their sum.
    gap = x.mean(0) - y.mean(0)
    x = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    y = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    spread = np.square(x).sum() + np.square(y).sum()
    return max(0.0, float(np.square(gap).sum() + spread - 2.0 * cross))
