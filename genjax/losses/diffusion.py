r"""Terms of denoising losses that are the same for all Gaussian processes.

With latents :math:`z_t = \alpha_t x + \sigma_t \epsilon`, every loss of a denoising model is a
weighted squared error, and every bound has the divergence of the last latent from its prior.

References:
    Kingma and Gao, Understanding Diffusion Objectives as the ELBO, arXiv:2303.00848.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import paired, per_row, sum_event, widened


def denoising_loss(
    output: Float[Array, "B *event"], target: Float[Array, "B *event"]
) -> Float[Array, " B"]:
    """Mean squared error of what a denoising network estimates over the entries of an event.

    Args:
        output: The network's output, ``[B, *event]``.
        target: What it is to estimate, ``[B, *event]``.

    Returns:
        The error of each row, ``[B]``, to be weighted by time.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> denoising_loss(jnp.array([[1.0, 2.0]]), jnp.zeros((1, 2)))
        Array([2.5], dtype=float32)

    References:
        Ho et al., Denoising Diffusion Probabilistic Models, arXiv:2006.11239, eq. 14.
    """
    output, target = paired(output=output, target=target)
    return jnp.mean(jnp.square(output - target), axis=tuple(range(1, output.ndim)))


def gaussian_prior_loss(
    x: Float[Array, "B *event"],
    alpha_1: Float[Array, "*batch"],
    sigma_1: Float[Array, "*batch"],
    *,
    prior_std: float = 1.0,
) -> Float[Array, " B"]:
    r"""Divergence of :math:`q(z_1 \mid x) = N(\alpha_1 x, \sigma_1^2)` from the prior
    :math:`N(0, s^2)`.

    Args:
        x: Data in the units of the process, ``[B, *event]``.
        alpha_1: Signal scale at time 1; a scalar or one a row.
        sigma_1: Noise scale at time 1, above 0; a scalar or one a row.
        prior_std: Standard deviation ``s`` of the prior.

    Returns:
        :math:`\frac12 \sum (\alpha_1^2 x^2/s^2 + \sigma_1^2/s^2 - 1 - \log(\sigma_1^2/s^2))`,
        nats, ``[B]``.

    Raises:
        ValueError: If a scale is neither a scalar nor one value a row.

    Example:
        >>> gaussian_prior_loss(jnp.ones((1, 2)), jnp.array(0.5), jnp.array(1.0))
        Array([0.25], dtype=float32)

    References:
        Ho et al., arXiv:2006.11239, eq. 5 (first term), for any prior.
    """  # noqa: D205
    x = widened(x)
    alpha_1 = per_row(widened(alpha_1), x) / prior_std
    variance = jnp.square(per_row(widened(sigma_1), x) / prior_std)
    # v - 1 - log v, by the distance of v from 1, which does not cancel next to it.
    excess = variance - 1.0
    return 0.5 * sum_event(jnp.square(alpha_1 * x) + excess - jnp.log1p(excess))
