"""Features of scalars and pixels that networks take in."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def sinusoidal_embedding(
    position: Float[Array, " B"], num_features: int, *, max_period: float = 10_000.0
) -> Float[Array, "B F"]:
    """Sines, then cosines, of a position at geometrically spaced frequencies.

    Args:
        position: Positions, any real numbers, ``[B]``.
        num_features: Even number of features, at least 4.
        max_period: The slowest sine has the period ``2 pi max_period``; the fastest ``2 pi``.

    Returns:
        Features in [-1, 1], float32, ``[B, num_features]``.

    Raises:
        ValueError: If ``num_features`` is odd or below 4.

    Example:
        >>> sinusoidal_embedding(jnp.zeros(1), 4)
        Array([[0., 0., 1., 1.]], dtype=float32)

    References:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, section 3.5, with the layout
        and spacing of google-research/vdm.
    """
    if num_features % 2 or num_features < 4:
        raise ValueError(f"num_features must be even and at least 4, got {num_features}")
    half = num_features // 2
    # From 1 down to 1 / max_period, both included, in equal steps of the log.
    frequencies = jnp.exp(
        jnp.arange(half, dtype=jnp.float32) * (-math.log(max_period) / (half - 1))
    )
    angles = position.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def fourier_features(
    z: Float[Array, "B *event C"], exponents: tuple[int, ...]
) -> Float[Array, "B *event F"]:
    r"""Sines and cosines of :math:`2 \pi 2^k z` for each exponent ``k``: the fine detail of pixels.

    Computed in float32 whatever the network's precision: at k = 7 the angle moves by a full turn
    for a change of ``z`` by 1/128, which bfloat16 cannot hold.

    Args:
        z: Latent, ``[B, *event, C]``.
        exponents: Powers of two ``k``. Grey levels ``2/V`` apart suggest k near ``log2(V) - 1``.

    Returns:
        ``[B, *event, 2 * C * len(exponents)]``: all sines, then all cosines, channel-major.

    Example:
        >>> fourier_features(jnp.zeros((1, 2)), (0, 1)).shape
        (1, 8)

    References:
        Kingma et al., arXiv:2107.00630, appendix C, where n = k + 1.
    """
    scales = jnp.array([2.0 * math.pi * 2.0**k for k in exponents], jnp.float32)
    angles = (z.astype(jnp.float32)[..., None] * scales).reshape(*z.shape[:-1], -1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def check_conditioning(
    gamma_min: float, gamma_max: float, num_classes: int | None, label: Array | None
) -> None:
    """Refuses conditioning of a score network that cannot be what was meant.

    Args:
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        num_classes: Number of classes, or None.
        label: Class ids, or None.

    Raises:
        ValueError: If ``gamma_min`` is not below ``gamma_max``, or labels do not fit classes.
    """
    if not gamma_min < gamma_max:
        raise ValueError(f"gamma_min must be below gamma_max, got {gamma_min} and {gamma_max}")
    check_label(num_classes, label)


def check_label(num_classes: int | None, label: Array | None) -> None:
    """Refuses labels without classes, and classes without labels.

    Args:
        num_classes: Number of classes, or None.
        label: Class ids, or None.

    Raises:
        ValueError: If one of the two is None and the other is not.
    """
    if (label is None) != (num_classes is None):
        state = "missing" if label is None else "given"
        raise ValueError(f"num_classes is {num_classes}, but the label is {state}")
