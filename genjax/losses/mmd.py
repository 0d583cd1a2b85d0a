r"""Maximum mean discrepancy between two sets of points.

References:
    Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.adversarial import AdversarialLoss
from genjax.losses.arrays import widened

Kernel: TypeAlias = Callable[[Array, Array], Array]
"""``[N, D], [M, D] -> [N, M]``, positive definite."""


def _sets(**sets: Array) -> list[Array]:
    """Widened sets of points, which may differ in number but not in width.

    Raises:
        ValueError: If one is not ``[N, D]``, or widths differ.
    """
    wide = [widened(points) for points in sets.values()]
    if any(points.ndim != 2 for points in wide) or len({p.shape[1] for p in wide}) > 1:
        said = ", ".join(f"{n} {list(p.shape)}" for n, p in zip(sets, wide, strict=True))
        raise ValueError(
            f"expected sets of points [N, D] with the same D, got {said}: of single numbers use "
            "x[:, None]"
        )
    return wide


def _squared_distances(x: Float[Array, "N D"], y: Float[Array, "M D"]) -> Float[Array, "N M"]:
    x, y = _sets(x=x, y=y)
    # Nothing keeps a critic's features near 0, and squares of large numbers have no digits left for
    # small distances. Distances do not depend on the centre, so that no slope goes through it.
    centre = jax.lax.stop_gradient(0.5 * (jnp.mean(x, axis=0) + jnp.mean(y, axis=0)))
    x, y = x - centre, y - centre
    # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y: one matrix product, and no array of all differences. In
    # full precision, as the squares are: accelerators would round the product's factors.
    rows, columns = jnp.sum(x * x, axis=-1), jnp.sum(y * y, axis=-1)
    products = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    squared = rows[:, None] + columns[None, :] - 2.0 * products
    return jnp.maximum(squared, 0.0)  # rounding can take it below


def rbf_kernel(
    x: Float[Array, "N D"],
    y: Float[Array, "M D"],
    *,
    bandwidths: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0),
) -> Float[Array, "N M"]:
    r"""Sum of Gaussian kernels :math:`\sum_\sigma \exp(-\lVert x-y\rVert^2 / 2\sigma^2)`.

    Args:
        x: Points, ``[N, D]``.
        y: Points, ``[M, D]``.
        bandwidths: Standard deviations :math:`\sigma > 0`, in the units of the points.

    Returns:
        Kernel of every pair, ``[N, M]``.

    Raises:
        ValueError: If a set is not ``[N, D]``, or widths differ.

    Example:
        >>> rbf_kernel(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
        Array([[5.]], dtype=float32)

    References:
        Li et al., MMD GAN, arXiv:1705.08584, section 5.
    """
    squared = _squared_distances(x, y)
    return sum((jnp.exp(-squared / (2.0 * s * s)) for s in bandwidths), jnp.zeros_like(squared))


def rational_quadratic_kernel(
    x: Float[Array, "N D"],
    y: Float[Array, "M D"],
    *,
    alphas: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0),
) -> Float[Array, "N M"]:
    r"""Sum of kernels :math:`\sum_\alpha (1 + \lVert x-y\rVert^2 / 2\alpha)^{-\alpha}`.

    Args:
        x: Points, ``[N, D]``.
        y: Points, ``[M, D]``.
        alphas: Exponents :math:`\alpha > 0`; kernels of small ones have heavy tails.

    Returns:
        Kernel of every pair, ``[N, M]``.

    Raises:
        ValueError: If a set is not ``[N, D]``, or widths differ.

    Example:
        >>> rational_quadratic_kernel(jnp.zeros((1, 2)), jnp.ones((1, 2)), alphas=[1.0])
        Array([[0.5]], dtype=float32)

    References:
        Binkowski et al., Demystifying MMD GANs, arXiv:1801.01401, section 2.
    """
    squared = _squared_distances(x, y)
    # The power through log1p, which keeps the digits of distances that are small beside alpha.
    terms = (jnp.exp(-a * jnp.log1p(squared / (2.0 * a))) for a in alphas)
    return sum(terms, jnp.zeros_like(squared))


def mmd_squared(
    x: Float[Array, "N D"],
    y: Float[Array, "M D"],
    *,
    kernel: Kernel = rbf_kernel,
    unbiased: bool = True,
) -> Float[Array, ""]:
    r"""Squared maximum mean discrepancy of two samples.

    Args:
        x: Points of one distribution, ``[N, D]``.
        y: Points of the other, ``[M, D]``.
        kernel: The kernel, ``[N, D], [M, D] -> [N, M]``.
        unbiased: Whether to leave each point's kernel with itself out (the U-statistic, which can
            be negative) or to keep it (the V-statistic, which cannot).

    Returns:
        The estimate: one number for the two sets, not one an example.

    Raises:
        ValueError: If a set is too small (two points each, one if biased) or not ``[N, D]``, or
            widths differ. The sets may differ in number.

    Example:
        >>> x = jnp.array([[0.0], [1.0]])
        >>> mmd_squared(x, x, unbiased=False)
        Array(0., dtype=float32)

    References:
        Gretton et al., JMLR 13, 2012, eq. 3 and 5.
    """
    x, y = _sets(x=x, y=y)
    n, m = x.shape[0], y.shape[0]
    least = 2 if unbiased else 1
    if min(n, m) < least:
        raise ValueError(f"expected at least {least} points in each set, got {n} and {m}")
    k_xx, k_yy, k_xy = kernel(x, x), kernel(y, y), kernel(x, y)
    if unbiased:
        # A point beside itself would add k(x, x) to the estimate whatever the distributions.
        within_x = (jnp.sum(k_xx) - jnp.trace(k_xx)) / (n * (n - 1))
        within_y = (jnp.sum(k_yy) - jnp.trace(k_yy)) / (m * (m - 1))
    else:
        within_x, within_y = jnp.mean(k_xx), jnp.mean(k_yy)
    return within_x + within_y - 2.0 * jnp.mean(k_xy)


def mmd_witness(
    points: Float[Array, "K D"],
    x: Float[Array, "N D"],
    y: Float[Array, "M D"],
    *,
    kernel: Kernel = rbf_kernel,
) -> Float[Array, " K"]:
    r"""The function that tells the two samples apart best, up to scale.

    Args:
        points: The points to evaluate it at, ``[K, D]``.
        x: Points of one distribution, ``[N, D]``.
        y: Points of the other, ``[M, D]``.
        kernel: The kernel, ``[N, D], [M, D] -> [N, M]``.

    Returns:
        :math:`\frac1N \sum_i k(\cdot, x_i) - \frac1M \sum_j k(\cdot, y_j)`, ``[K]``.

    Raises:
        ValueError: If a set is not ``[N, D]``, or widths differ.

    Example:
        >>> mmd_witness(jnp.ones((1, 1)), jnp.ones((2, 1)), jnp.zeros((2, 1))) > 0
        Array([ True], dtype=bool)

    References:
        Binkowski et al., arXiv:1801.01401, section 2.
    """
    points, x, y = _sets(points=points, x=x, y=y)
    return jnp.mean(kernel(points, x), axis=1) - jnp.mean(kernel(points, y), axis=1)


def mmd_gan_loss(kernel: Kernel = rbf_kernel) -> AdversarialLoss:
    """The game of an MMD GAN: the critic's outputs are features ``[B, K]``.

    The critic maximises, and the generator minimises, the unbiased squared discrepancy of features,
    of two sets that may differ in number, not in width. Penalties on the gradient apply to the
    witness function.

    Args:
        kernel: Kernel of features, ``[N, K], [M, K] -> [N, M]``.

    Returns:
        Both players' losses: scalars, not one an example.

    Example:
        >>> mmd_gan_loss().critic(jnp.zeros((4, 2)), jnp.zeros((4, 2)))
        Array(-0., dtype=float32)

    References:
        Li et al., arXiv:1705.08584; Binkowski et al., arXiv:1801.01401.
    """
    return AdversarialLoss(
        critic=lambda real, fake: -mmd_squared(real, fake, kernel=kernel),
        generator=lambda real, fake: mmd_squared(real, fake, kernel=kernel),
        uses_real=True,
        witness=lambda outputs, real, fake: mmd_witness(outputs, real, fake, kernel=kernel),
    )
