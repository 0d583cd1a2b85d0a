"""Conditional flow matching: the velocity of a straight path from noise to data."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import paired, per_row, widened


def straight_path(
    noise: Float[Array, "B *event"],
    data: Float[Array, "B *event"],
    times: Float[Array, " B"],
    *,
    sigma_min: float = 0.0,
) -> tuple[Float[Array, "B *event"], Float[Array, "B *event"]]:
    r"""A point of the path from noise to data, and its velocity.

    .. math:: x_t = (1 - (1 - \sigma) t)\, x_0 + t x_1, \qquad v = x_1 - (1 - \sigma)\, x_0

    Args:
        noise: Where the path begins at time 0, ``x_0``, ``[B, *event]``.
        data: Where it ends at time 1, ``x_1``, ``[B, *event]``.
        times: Times in [0, 1], ``[B]``.
        sigma_min: Standard deviation of the noise left at time 1, ``sigma``.

    Returns:
        The point ``x_t`` and its velocity ``v``, both ``[B, *event]``.

    Raises:
        ValueError: If ``sigma_min`` is not in [0, 1), or shapes do not fit.

    Example:
        >>> x_t, v = straight_path(jnp.array([[0.0]]), jnp.array([[4.0]]), jnp.array([0.25]))
        >>> float(x_t[0, 0]), float(v[0, 0])
        (1.0, 4.0)

    References:
        Lipman et al., Flow Matching for Generative Modeling, arXiv:2210.02747, eq. 20-23; with
        ``sigma`` 0: Liu et al., arXiv:2209.03003.
    """
    if not 0.0 <= sigma_min < 1.0:
        raise ValueError(f"sigma_min must be in [0, 1), got {sigma_min}")
    noise, data = paired(noise=noise, data=data)
    t = per_row(widened(times), data)
    # Eq. 22 of Lipman et al., and its derivative in t, which is the target of their eq. 23.
    x_t = (1.0 - (1.0 - sigma_min) * t) * noise + t * data
    return x_t, data - (1.0 - sigma_min) * noise


def flow_matching_loss(
    velocity: Float[Array, "B *event"], target: Float[Array, "B *event"]
) -> Float[Array, " B"]:
    """Mean squared error of a velocity over the entries of an event.

    Args:
        velocity: The model's velocity at points of the paths, ``[B, *event]``.
        target: The velocity of the paths there, from :func:`straight_path`, ``[B, *event]``.

    Returns:
        The error of each row, ``[B]``.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> flow_matching_loss(jnp.array([[1.0, 2.0]]), jnp.zeros((1, 2)))
        Array([2.5], dtype=float32)

    References:
        Lipman et al., arXiv:2210.02747, eq. 9.
    """
    velocity, target = paired(velocity=velocity, target=target)
    return jnp.mean(jnp.square(velocity - target), axis=tuple(range(1, velocity.ndim)))
