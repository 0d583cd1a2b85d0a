r"""The variance-preserving forward process, parametrised by :math:`\gamma = -\log \mathrm{SNR}`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import check_same_shape, per_row


def alpha(gamma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Signal scale :math:`\alpha = \sqrt{\mathrm{sigmoid}(-\gamma)}`.

    Args:
        gamma: Negative log signal-to-noise ratio, of any shape.

    Returns:
        The scale in (0, 1), of the same shape.

    Example:
        >>> alpha(jnp.array([-30.0, 30.0])).round(5)
        Array([1., 0.], dtype=float32)

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, eq. 4.
    """
    # Through log_sigmoid: its gradient stays finite where the sigmoid underflows.
    return jnp.exp(0.5 * jax.nn.log_sigmoid(-gamma))


def sigma(gamma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Noise scale :math:`\sigma = \sqrt{\mathrm{sigmoid}(\gamma)}`, so that alpha² + sigma² = 1.

    Args:
        gamma: Negative log signal-to-noise ratio, of any shape.

    Returns:
        The scale in (0, 1), of the same shape.

    Example:
        >>> sigma(jnp.array([-30.0, 30.0])).round(5)
        Array([0., 1.], dtype=float32)

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, eq. 4.
    """
    # Through log_sigmoid for its gradient, as alpha.
    return jnp.exp(0.5 * jax.nn.log_sigmoid(gamma))


def diffuse(
    x: Float[Array, "B *event"], noise: Float[Array, "B *event"], gamma_t: Float[Array, "*batch"]
) -> Float[Array, "B *event"]:
    r"""Draws :math:`z_t = \alpha_t x + \sigma_t \epsilon` from given noise.

    Args:
        x: Data, ``[B, *event]``.
        noise: Standard normal draws, ``[B, *event]``.
        gamma_t: Negative log signal-to-noise ratio; a scalar or one a row.

    Returns:
        The latent ``z_t``, ``[B, *event]``.

    Raises:
        ValueError: If ``gamma_t`` is neither a scalar nor one value a row, or ``x`` and ``noise``
            differ in shape.

    Example:
        >>> diffuse(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.array([0.0]))
        Array([[1.4142135]], dtype=float32)

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, eq. 1.
    """
    check_same_shape(x=x, noise=noise)
    gamma_t = per_row(gamma_t, x)
    return alpha(gamma_t) * x + sigma(gamma_t) * noise
