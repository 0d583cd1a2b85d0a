r"""The terms of the bound of a chain of Gaussian steps, and the densities that they are made of.

With latents :math:`z_t = \alpha_t x + \sigma_t \epsilon` for data ``x`` and noise, the model goes
from each latent to an earlier one by a Gaussian, whose divergence from the posterior
:math:`q(z_s \mid z_t, x)` is a term of the bound. The last Gaussian is of the data itself.

References:
    Ho et al., Denoising Diffusion Probabilistic Models, arXiv:2006.11239, sections 2 and 3; Nichol
    and Dhariwal, Improved Denoising Diffusion Probabilistic Models, arXiv:2102.09672.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt

from genjax.losses.arrays import (
    check_same_shape,
    for_entries,
    inverse_scale,
    paired,
    per_row,
    sum_event,
    whole_levels,
    widened,
)


def posterior_mean(
    x: Float[Array, "B *event"],
    z_t: Float[Array, "B *event"],
    alpha_s: Float[Array, "*batch"],
    sigma_s: Float[Array, "*batch"],
    alpha_t: Float[Array, "*batch"],
    sigma_t: Float[Array, "*batch"],
) -> Float[Array, "B *event"]:
    r"""Mean of an earlier latent, :math:`q(z_s \mid z_t, x)` for s < t.

    Args:
        x: Data, ``[B, *event]``; an estimate of it gives the mean of a model's step.
        z_t: The later latent, ``[B, *event]``.
        alpha_s: Signal scale at time s, above 0; a scalar or one a row.
        sigma_s: Noise scale at time s; with 0 the latent is the data, and so is the mean.
        alpha_t: Signal scale at time t.
        sigma_t: Noise scale at time t, above 0.

    Returns:
        :math:`\frac{\alpha_t\sigma_s^2}{\alpha_s\sigma_t^2} z_t + \alpha_s c\,x` with
        :math:`c = 1 - (\alpha_t\sigma_s)^2/(\alpha_s\sigma_t)^2`, ``[B, *event]``.

    Raises:
        ValueError: If ``x`` and ``z_t`` differ in shape, or a scale is neither a scalar nor one
            value a row.

    Example:
        >>> one, half = jnp.array(1.0), jnp.array(0.5)
        >>> posterior_mean(jnp.zeros((1, 1)), jnp.ones((1, 1)), one, half, half, one)
        Array([[0.125]], dtype=float32)

    References:
        Ho et al., arXiv:2006.11239, eq. 7, for any scales: Kingma et al., arXiv:2107.00630,
        eq. 25 to 27.
    """
    x, z_t = paired(x=x, z_t=z_t)
    scales = (per_row(widened(scale), x) for scale in (alpha_s, sigma_s, alpha_t, sigma_t))
    alpha_s, sigma_s, alpha_t, sigma_t = scales
    ratio = alpha_t * sigma_s / (alpha_s * sigma_t)
    return ratio * (sigma_s / sigma_t) * z_t + alpha_s * _late_share(ratio) * x


def posterior_variance(
    alpha_s: Float[Array, "*batch"],
    sigma_s: Float[Array, "*batch"],
    alpha_t: Float[Array, "*batch"],
    sigma_t: Float[Array, "*batch"],
) -> Float[Array, "*batch"]:
    r"""Variance of each entry of an earlier latent, :math:`q(z_s \mid z_t, x)` for s < t.

    Args:
        alpha_s: Signal scale at time s, above 0.
        sigma_s: Noise scale at time s, of the same shape as the others.
        alpha_t: Signal scale at time t.
        sigma_t: Noise scale at time t, above 0.

    Returns:
        :math:`\sigma_s^2 (1 - (\alpha_t\sigma_s)^2/(\alpha_s\sigma_t)^2)`, of the same shape.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> posterior_variance(*(jnp.array(scale) for scale in (1.0, 0.5, 0.5, 1.0)))
        Array(0.234375, dtype=float32, weak_type=True)

    References:
        Ho et al., arXiv:2006.11239, eq. 7.
    """
    alpha_s, sigma_s, alpha_t, sigma_t = paired(
        alpha_s=alpha_s, sigma_s=sigma_s, alpha_t=alpha_t, sigma_t=sigma_t
    )
    return jnp.square(sigma_s) * _late_share(alpha_t * sigma_s / (alpha_s * sigma_t))


def _late_share(ratio: Array) -> Array:
    """The share of the noise in ``z_t``, by its variance, that came after time s."""
    # A difference of squares: one rounding, of a ratio close to 1, in place of two.
    return (1.0 - ratio) * (1.0 + ratio)


def gaussian_kl_loss(
    mean_q: Float[Array, "B *event"],
    log_variance_q: Float[Array, "..."],
    mean_p: Float[Array, "B *event"],
    log_variance_p: Float[Array, "..."],
) -> Float[Array, " B"]:
    r"""Kullback-Leibler divergence of a Gaussian q from a Gaussian p, both of independent entries.

    Args:
        mean_q: Mean of the one that the expectation is under, ``[B, *event]``.
        log_variance_q: Log of its variance: a scalar, one a row or one for each entry.
        mean_p: Mean of the other, ``[B, *event]``.
        log_variance_p: Log of its variance, likewise.

    Returns:
        :math:`\frac12 \sum (\log\sigma_p^2 - \log\sigma_q^2 - 1 + \sigma_q^2/\sigma_p^2
        + (\mu_q - \mu_p)^2/\sigma_p^2)`, nats, ``[B]``.

    Raises:
        ValueError: If the means differ in shape, or a variance is none of the three.

    Example:
        >>> zero = jnp.zeros((1, 2))
        >>> gaussian_kl_loss(zero, jnp.array(0.0), zero + 1.0, jnp.array(0.0))
        Array([1.], dtype=float32)

    References:
        Ho et al., arXiv:2006.11239, eq. 5 (the terms of the steps) and eq. 8.
    """
    mean_q, mean_p = paired(mean_q=mean_q, mean_p=mean_p)
    log_p = for_entries(log_variance_p, mean_p)
    excess = for_entries(log_variance_q, mean_q) - log_p
    # exp(e) - 1 - e in this order does not lose a small e in the 1.
    mismatch = jnp.expm1(excess) - excess
    return 0.5 * sum_event(mismatch + jnp.square(mean_q - mean_p) * jnp.exp(-log_p))


def gaussian_loss(
    x: Float[Array, "B *event"],
    mean: Float[Array, "B *event"],
    log_variance: Float[Array, "..."],
) -> Float[Array, " B"]:
    r"""Negative log-density of real-valued data under a Gaussian of independent entries.

    Args:
        x: Data, ``[B, *event]``.
        mean: Mean, ``[B, *event]``.
        log_variance: Log of the variance: a scalar, one a row or one for each entry.

    Returns:
        :math:`\frac12 \sum ((x - \mu)^2/\sigma^2 + \log\sigma^2 + \log 2\pi)`, nats, ``[B]``; a
        density, so it may be negative.

    Raises:
        ValueError: If ``x`` and ``mean`` differ in shape, or the variance is none of the three.

    Example:
        >>> gaussian_loss(jnp.ones((1, 2)), jnp.zeros((1, 2)), jnp.array(0.0)).round(4)
        Array([2.8379], dtype=float32)

    References:
        Ho et al., arXiv:2006.11239, eq. 5 (last term), for a continuous x.
    """
    x, mean = paired(x=x, mean=mean)
    log_variance = for_entries(log_variance, x)
    square = jnp.square((x - mean) * inverse_scale(0.5 * log_variance))
    return 0.5 * sum_event(square + log_variance + math.log(2.0 * math.pi))


def discretized_gaussian_loss(
    levels: Int[Array, "B *event"] | UInt[Array, "B *event"],
    mean: Float[Array, "B *event"],
    log_std: Float[Array, "..."],
    *,
    num_levels: int = 256,
) -> Float[Array, " B"]:
    r"""Negative log-probability of grey levels, each the integral of a Gaussian over its bin.

    Level ``k`` of ``V`` is at :math:`x = 2k/(V - 1) - 1`, so that the lowest is -1 and the highest
    1, and its bin reaches half way to its neighbours, :math:`1/(V - 1)` to each side; those of the
    lowest and the highest level have no outer end. Probabilities of all levels add up to 1.

    The Gaussian's own distribution function is taken (published code approximates it by a
    ``tanh``), and its differences as logarithms: the loss and its gradients are finite and right
    for means any number of standard deviations away, and for bins of any width in these.

    Args:
        levels: Grey levels, whole numbers in ``[0, num_levels)``, ``[B, *event]``.
        mean: Mean of the Gaussian in the units of x, ``[B, *event]``.
        log_std: Log of its standard deviation: a scalar, one a row or one for each entry.
        num_levels: Number of grey levels ``V``, at least 2.

    Returns:
        Nats, ``[B]``.

    Raises:
        ValueError: If the levels are floating point, there are fewer than 2, or shapes differ.

    Example:
        >>> levels = jnp.array([[0], [1]], jnp.uint8)
        >>> discretized_gaussian_loss(levels, jnp.zeros((2, 1)), jnp.array(5.0), num_levels=2)
        Array([0.6931472, 0.6931472], dtype=float32)

    References:
        Ho et al., arXiv:2006.11239, eq. 13.
    """
    levels = whole_levels(levels, num_levels)
    if num_levels < 2:
        raise ValueError(f"num_levels must be at least 2, got {num_levels}")
    mean = widened(mean)
    check_same_shape(levels=levels, mean=mean)
    inverse_std = inverse_scale(for_entries(log_std, mean))
    reach = 1.0 / (num_levels - 1)
    distance = levels.astype(mean.dtype) * (2.0 * reach) - 1.0 - mean
    low, high = (distance - reach) * inverse_std, (distance + reach) * inverse_std
    # By symmetry a bin may be looked at from the side on which its centre is at most 0.
    centre, width = -jnp.abs(distance * inverse_std), 2.0 * reach * inverse_std
    inside = _log_mass(centre, jnp.broadcast_to(width, centre.shape))
    # Open ends: all that is below the lowest level's upper end, or above the highest one's lower.
    ends = jnp.where(levels == 0, _log_cdf(high), _log_cdf(-low))
    at_end = (levels == 0) | (levels == num_levels - 1)
    return -sum_event(jnp.where(at_end, ends, inside))


def interpolated_log_variance(
    share: Float[Array, "B *event"],
    log_small: Float[Array, "..."],
    log_large: Float[Array, "..."],
) -> Float[Array, "B *event"]:
    r"""Log of a learned variance: a network says where it is between two, in the log domain.

    Args:
        share: The network's output v, -1 for the small and 1 for the large variance, which it may
            leave, ``[B, *event]``.
        log_small: Log of the posterior's variance: a scalar, one a row or one for each entry.
        log_large: Log of the forward step's variance, likewise.

    Returns:
        :math:`\frac{1+v}2 \log\beta + \frac{1-v}2 \log\tilde\beta`, ``[B, *event]``.

    Raises:
        ValueError: If a variance is none of the three.

    Example:
        >>> interpolated_log_variance(jnp.zeros((1, 1)), jnp.array(-4.0), jnp.array(-2.0))
        Array([[-3.]], dtype=float32)

    References:
        Nichol and Dhariwal, arXiv:2102.09672, eq. 15, with its v as :math:`(1 + v)/2`, as the
        authors' code has it.
    """
    share = widened(share)
    small, large = for_entries(log_small, share), for_entries(log_large, share)
    return 0.5 * ((large + small) + (large - small) * share)


_FAR = -10.0
"""From here on down the distribution function is its asymptotic series, of which the term after the
sixteenth is below the rounding of float64."""
_SERIES = [1.0]
for _n in range(1, 17):
    _SERIES.append(-(2 * _n - 1) * _SERIES[-1])

_NARROW = 1.0 / 16.0
# Gauss-Legendre quadrature of five points on [-1, 1].
_INNER, _OUTER = (math.sqrt(5.0 + side * 2.0 * math.sqrt(10.0 / 7.0)) / 3.0 for side in (-1, 1))
_NODES = (-_OUTER, -_INNER, 0.0, _INNER, _OUTER)
_LESS, _MORE = ((322.0 + side * 13.0 * math.sqrt(70.0)) / 900.0 for side in (-1, 1))
_WEIGHTS = (_LESS, _MORE, 128.0 / 225.0, _MORE, _LESS)


def _log_far(x: Array) -> Array:
    r"""Log of :math:`\Phi(x) e^{x^2/2}` for x below :data:`_FAR`."""
    inverse = 1.0 / jnp.minimum(x, _FAR)
    total = jnp.zeros_like(x)
    for coefficient in reversed(_SERIES):
        total = total * jnp.square(inverse) + coefficient
    return jnp.log(-inverse) - 0.5 * math.log(2.0 * math.pi) + jnp.log(total)


def _log_cdf(x: Array) -> Array:
    """Log of the normal distribution function, with a gradient that is right far below 0."""
    # The gradient that jax has divides two exponentials, of which far below 0 no digit is left.
    near = jax.scipy.special.log_ndtr(jnp.maximum(x, _FAR))
    return jnp.where(x < _FAR, _log_far(x) - 0.5 * jnp.square(jnp.minimum(x, _FAR)), near)


def _log_mass(centre: Array, width: Array) -> Array:
    """Log of the normal probability of intervals by their centre, at most 0, and their width."""
    # Of narrow ones, over which the density hardly changes, the ends have almost the same
    # distribution function: the density is integrated.
    narrow = (width <= _NARROW) & (-centre * width <= 1.0)
    c, w = jnp.where(narrow, centre, 0.0), jnp.where(narrow, width, _NARROW)
    steps = 0.5 * w[..., None] * jnp.asarray(_NODES, w.dtype)
    powers = -steps * c[..., None] - 0.5 * jnp.square(steps)
    weights = jnp.asarray(_WEIGHTS, w.dtype)
    integral = jnp.log(0.5 * w) + jnp.log(jnp.sum(weights * jnp.exp(powers), axis=-1))
    of_density = integral - 0.5 * (jnp.square(c) + math.log(2.0 * math.pi))
    # Of the others it is the upper end's less a share, which is an exponential of what is lost.
    c, w = jnp.where(narrow, -1.0, centre), jnp.where(narrow, 1.0, width)
    low, high = c - 0.5 * w, c + 0.5 * w
    # Both far out, -x^2/2 of the two would cancel: its difference is the centre times the width.
    lost = jnp.where(
        high < _FAR, c * w + _log_far(low) - _log_far(high), _log_cdf(low) - _log_cdf(high)
    )
    of_ends = _log_cdf(high) + jnp.log(-jnp.expm1(lost))
    return jnp.where(narrow, of_density, of_ends)
