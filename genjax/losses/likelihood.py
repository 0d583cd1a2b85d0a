"""Units of likelihood."""

import math

from jaxtyping import Array, Float


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
    return nats / (num_dims * math.log(2.0))
