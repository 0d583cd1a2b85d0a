"""Kernel distance (with Inception's features, KID)."""

import math

import numpy as np

from genjax.evaluation.arrays import centred, check_features


def _mmd_squared(x: np.ndarray, y: np.ndarray, centre: np.ndarray) -> float:
    """Unbiased squared discrepancy under the cubic kernel, equal numbers of rows.

    The kernel depends on where the points lie, but the discrepancy is the same for

    ``k(a, b) - k(a, c) - k(c, b) + k(c, c)``

    with any ``c``: terms of one argument cancel. With ``c`` amidst the points these are small where
    the points are close to each other; the kernel itself, of sixth order in the features, is large
    everywhere, and rounding all that is left of its differences.

    Args:
        x: Rows of one set, less the centre.
        y: Rows of the other, less the centre.
        centre: What was subtracted.
    """
    count, size = x.shape
    # With k = t^3 the kernel's argument is t = s + p_a + p_b + q of these parts.
    s = centre @ centre / size + 1.0

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        p_a, p_b, q = (a @ centre / size)[:, None], (b @ centre / size)[None], a @ b.T / size
        t = s + p_a + p_b
        # (t + q)^3 - t^3, and the rest t^3 - (s + p_a)^3 - (s + p_b)^3 + s^3.
        return q * (3.0 * t * (t + q) + q * q) + 3.0 * p_a * p_b * (s + t)

    k_xx, k_yy, k_xy = kernel(x, x), kernel(y, y), kernel(x, y)
    # Without the diagonals: a row beside itself would add to the estimate whatever the
    # distributions.
    within = k_xx.sum() - np.trace(k_xx) + k_yy.sum() - np.trace(k_yy)
    return float(within / (count * (count - 1)) - 2.0 * k_xy.mean())


def kernel_distance(
    features_1: np.ndarray, features_2: np.ndarray, *, block_size: int = 1000
) -> tuple[float, float]:
    r"""Squared maximum mean discrepancy under :math:`(x^T y / D + 1)^3`, unbiased.

    The mean over disjoint blocks, which are independent, so that their spread gives an honest
    standard error. (Others average 100 overlapping subsets of 1,000 rows: the same expectation.)

    Args:
        features_1: Features of one set, ``[N, D]``, at least 20 rows.
        features_2: Features of the other, ``[M, D]``, at least 20 rows.
        block_size: Number of rows in a block; fewer if that would leave less than ten blocks.

    Returns:
        The estimate and its standard error. Not multiplied by 1,000.

    Raises:
        ValueError: If a set has fewer than 20 rows or widths differ.

    Example:
        >>> x, y = np.random.default_rng(0).normal(size=(2, 1000, 4))
        >>> value, stderr = kernel_distance(x, y)
        >>> abs(value) < 4 * stderr
        True

    References:
        Binkowski et al., Demystifying MMD GANs, arXiv:1801.01401, section 4.
    """
    features_1, features_2 = check_features(features_1, features_2, least=20)
    x, y = centred(features_1, features_2)
    centre = features_1.mean(0)
    count = min(len(x), len(y))
    block_size = min(block_size, count // 10)
    # Rows may come sorted by class: blocks are drawn at random, the same ones every time.
    rng = np.random.Generator(np.random.Philox(0))
    x, y = x[rng.permutation(len(x))], y[rng.permutation(len(y))]
    starts = range(0, count - block_size + 1, block_size)
    values = [_mmd_squared(x[s : s + block_size], y[s : s + block_size], centre) for s in starts]
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
