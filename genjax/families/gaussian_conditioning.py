"""Gaussians of which some entries are known: how likely those are, and draws of the others."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from genjax.families.linear_algebra import matmul


def _known_factor(covariance: Float[Array, "D D"], known: Bool[Array, " D"]) -> Array:
    """Cholesky factor of the known entries' covariance, with a unit matrix for the others."""
    both = known[:, None] & known[None, :]
    return jnp.linalg.cholesky(jnp.where(both, covariance, 0.0) + jnp.diag(~known))


def known_log_density(
    offset: Float[Array, " D"],
    covariance: Float[Array, "D D"],
    known: Bool[Array, " D"],
    *,
    within: float = 0.0,
) -> Float[Array, ""]:
    r"""Log-density of the known entries of a row.

    Args:
        offset: The row less the mean; read where it is known.
        covariance: Covariance of all entries.
        known: True where an entry is known.
        within: Variance of each entry about its value, as within a grey level: the log-density's
            mean over it is returned, which takes away :math:`\frac{w}{2}
            \operatorname{tr}\Sigma_{kk}^{-1}`.

    Returns:
        The log-density, 0 where nothing is known.
    """
    factor = _known_factor(covariance, known)
    solve = jax.scipy.linalg.solve_triangular
    squares = jnp.sum(solve(factor, jnp.where(known, offset, 0.0), lower=True) ** 2)
    if within:
        inverse = solve(factor, jnp.diag(known.astype(factor.dtype)), lower=True)
        squares += within * jnp.sum(inverse**2)
    size = jnp.sum(known)
    log_det = jnp.sum(jnp.log(jnp.diag(factor)))
    return -0.5 * (squares + size * math.log(2.0 * math.pi)) - log_det


def fill(
    offset: Float[Array, " D"],
    drawn: Float[Array, " D"],
    covariance: Float[Array, "D D"],
    known: Bool[Array, " D"],
) -> Float[Array, " D"]:
    r"""A draw of all entries becomes one given the known ones.

    :math:`x_m + \Sigma_{mk} \Sigma_{kk}^{-1} (x_k - x'_k)` of a draw :math:`x'` has the conditional
    distribution (Matheron's rule; Doucet, A Note on Efficient Conditional Simulation of Gaussian
    Distributions, 2010).

    Args:
        offset: The row less the mean; read where it is known.
        drawn: A draw of the centred Gaussian.
        covariance: Covariance of all entries.
        known: True where an entry is known.

    Returns:
        The filled row less the mean.
    """
    gap = jnp.where(known, offset - drawn, 0.0)
    factor = _known_factor(covariance, known)
    moved = drawn + matmul(covariance, jax.scipy.linalg.cho_solve((factor, True), gap))
    return jnp.where(known, offset, moved)
