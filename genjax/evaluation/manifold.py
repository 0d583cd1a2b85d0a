"""Precision, recall, density and coverage from balls around nearest neighbours."""

import numpy as np

from genjax.evaluation.arrays import centred, check_features, chunks, squared_distances


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row."""
    out = np.empty(len(x))
    for rows in chunks(len(x)):
        distances = squared_distances(x[rows], x)
        # The row itself is one of them, at distance zero up to rounding.
        distances[np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)] = -1.0
        # The row itself, at -1, comes first: the k-th nearest other row is at place k.
        out[rows] = np.partition(distances, k, axis=1)[:, k]
    return out


def _check(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    real, fake = centred(*check_features(real, fake, least=k + 1))
    return real, fake


def precision_and_recall(real: np.ndarray, fake: np.ndarray, *, k: int = 3) -> tuple[float, float]:
    """Shares of samples near the data, and of data near the samples.

    Args:
        real: Features of data, ``[N, D]``.
        fake: Features of samples, ``[M, D]``.
        k: The neighbour, not counting the row itself, whose distance is the radius of a row's ball.

    Returns:
        Precision, the share of samples in a ball around a data row, and recall, the share of data
        rows in a ball around a sample.

    Raises:
        ValueError: If there are not more than ``k`` rows or widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> precision_and_recall(x, x + 100.0)
        (0.0, 0.0)

    References:
        Kynkäänniemi et al., Improved Precision and Recall Metric, arXiv:1904.06991, eq. 1-3.
    """
    real, fake = _check(real, fake, k)
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    near_data = np.empty(len(fake), bool)
    near_samples = np.zeros(len(real), bool)
    for rows in chunks(len(fake)):
        distances = squared_distances(fake[rows], real)
        near_data[rows] = (distances <= real_radii).any(1)
        near_samples |= (distances <= fake_radii[rows, None]).any(0)
    return float(near_data.mean()), float(near_samples.mean())


def density_and_coverage(real: np.ndarray, fake: np.ndarray, *, k: int = 5) -> tuple[float, float]:
    """How many data rows samples are near to, and how many data rows have a sample near.

    Args:
        real: Features of data, ``[N, D]``.
        fake: Features of samples, ``[M, D]``.
        k: The neighbour, not counting the row itself, whose distance is the radius of a data row's
            ball.

    Returns:
        Density, the mean number of balls around data rows that a sample is in, divided by ``k``
        (not limited by 1), and coverage, the share of data rows whose ball holds a sample.

    Raises:
        ValueError: If there are not more than ``k`` rows or widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> density_and_coverage(x, x)[1]
        1.0

    References:
        Naeem et al., Reliable Fidelity and Diversity Metrics, arXiv:2002.09797, eq. 4 and 5.
    """
    real, fake = _check(real, fake, k)
    radii = _radii(real, k)
    balls, covered = 0, np.zeros(len(real), bool)
    for rows in chunks(len(fake)):
        inside = squared_distances(fake[rows], real) <= radii
        balls += int(inside.sum())
        covered |= inside.any(0)
    return balls / (k * len(fake)), float(covered.mean())
