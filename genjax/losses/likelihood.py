"""Units of likelihood, and the bound that several draws of noise give together."""

import math

import jax
from jaxtyping import Array, Float

from genjax.losses.arrays import widened


def importance_weighted_nats(nats: Float[Array, "K *shape"]) -> Float[Array, "*shape"]:
    r"""A tighter bound from several: :math:`-\log \frac1K \sum_k e^{-L_k}`.

    Args:
        nats: Bounds ``L`` on negative log-likelihoods, each from a draw of its own: uniform noise,
            or any other whose density the bound accounts for. The draws are the first axis, ``K``.

    Returns:
        Bounds at most as high as the mean over the draws, in expectation lower for more draws.

    Raises:
        ValueError: If there is no axis of draws, or no draw.

    Example:
        >>> round(float(importance_weighted_nats(jnp.array([1.0, 3.0]))), 4)
        1.5662

    References:
        Burda et al., Importance Weighted Autoencoders, arXiv:1509.00519, eq. 8.
    """
    nats = widened(nats)
    if not nats.ndim or not nats.shape[0]:
        raise ValueError(
            f"expected draws along the first axis, [K, ...], got shape {nats.shape}: of one draw "
            "use nats[None]"
        )
    # The log of the mean of exp(-L), whose largest term is taken out before anything is
    # exponentiated.
    return math.log(nats.shape[0]) - jax.nn.logsumexp(-nats, axis=0)


def nats_to_bits_per_dim(nats: Float[Array, "*shape"], num_dims: int) -> Float[Array, "*shape"]:
    """Converts nats per example to bits per dimension.

    Args:
        nats: Negative log-likelihoods or bounds on them, summed over the event.
        num_dims: Dimensions of one event: 3072 for a 32x32 image with three channels.

    Returns:
        ``nats / (num_dims * ln 2)``.

    Raises:
        ValueError: If ``num_dims`` is not positive.

    Example:
        >>> nats_to_bits_per_dim(jnp.array([4 * jnp.log(2.0)]), num_dims=2)
        Array([2.], dtype=float32)
    """
    if num_dims < 1:
        raise ValueError(f"num_dims must be at least 1, got {num_dims}")
    return widened(nats) / (num_dims * math.log(2.0))
