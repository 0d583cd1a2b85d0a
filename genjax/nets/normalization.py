"""Group normalisation with a formulation of its own on CPU, and scales that layers start from."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class GroupNorm(nn.Module):
    """Group normalisation with learned scale and bias, as :class:`flax.linen.GroupNorm`.

    On GPU and TPU it computes what that does; see :func:`group_norm` for CPUs.

    Attributes:
        num_groups: Number of groups of neighbouring channels, which are normalised together.
        epsilon: The number that is added to the variance.
        dtype: The precision of the result, that of input and parameters if None; statistics are
            float32 at least.

    References:
        Wu and He, arXiv:1803.08494, eq. 1, 2, 6 and 7.
    """

    num_groups: int
    epsilon: float = 1e-6
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *spatial C"],
        film: tuple[Float[Array, "B C"], Float[Array, "B C"]] | None = None,
    ) -> Float[Array, "B *spatial C"]:
        """Normalises ``[B, *spatial, C]``.

        Args:
            x: The input.
            film: A relative scale and a shift of each channel of each example, by which a condition
                acts on the result: it becomes ``y * (1 + scale) + shift``.

        Returns:
            The result, of the shape of ``x``.

        Raises:
            ValueError: If the channels do not divide into the groups.

        References:
            Perez et al., FiLM, arXiv:1709.07871, eq. 2, for ``film``.
        """
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:], jnp.float32)
        if film is not None:
            # One scale and offset a channel in place of two in turn.
            factor, shift = (a.astype(jnp.promote_types(a.dtype, scale.dtype)) for a in film)
            scale, bias = scale * (1.0 + factor), bias * (1.0 + factor) + shift
        y = group_norm(x, scale, bias, num_groups=self.num_groups, epsilon=self.epsilon)
        return y.astype(self.dtype or jnp.promote_types(x.dtype, scale.dtype))


def group_norm(
    x: Float[Array, "B *spatial C"],
    scale: Float[Array, " C"] | Float[Array, "B C"],
    bias: Float[Array, " C"] | Float[Array, "B C"],
    *,
    num_groups: int,
    epsilon: float = 1e-6,
) -> Float[Array, "B *spatial C"]:
    """Normalises to mean 0 and variance 1 over space and groups of channels, then scales.

    Flax sums over space and the channels of a group at once and subtracts the mean from each pixel.
    XLA's CPU backend is three times slower at such sums where groups are small, and computes again
    for each pixel what is known for each channel. There, sums are taken for each channel, small
    matrix products bring them to the groups and back, and each pixel has one slope and offset.

    Args:
        x: The input, ``[B, *spatial, C]``.
        scale: Factor of each channel after the normalisation, ``[C]``, or ``[B, C]`` where each
            example has its own.
        bias: What is added to each channel after that, ``[C]`` or ``[B, C]`` likewise.
        num_groups: Number of groups of neighbouring channels; must divide ``C``.
        epsilon: The number that is added to the variance.

    Returns:
        The result, float32 at least.

    Raises:
        ValueError: If the channels do not divide into the groups, or ``x`` has one axis.
    """
    if x.ndim < 2:
        raise ValueError(f"expected [B, *spatial, C], got shape {x.shape}")
    channels = x.shape[-1]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{channels} channels do not divide into num_groups={num_groups} groups")
    return _as_fast_as_the_platform(x, scale, bias, num_groups=num_groups, epsilon=epsilon)


# Compiled, so that layers of one shape, and their gradients, are traced once and not one by one.
@functools.partial(jax.jit, static_argnames=("num_groups", "epsilon"))
def _as_fast_as_the_platform(
    x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float
) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def on_cpu(x: Array, scale: Array, bias: Array) -> Array:
        operands = (a.astype(wide) for a in (x, scale, bias))
        return _by_channel(*operands, num_groups=num_groups, epsilon=epsilon)

    def stock(x: Array, scale: Array, bias: Array) -> Array:
        own = scale.ndim == 1  # Flax's layer has one scale for all examples
        layer = nn.GroupNorm(num_groups, epsilon=epsilon, dtype=wide, use_scale=own, use_bias=own)
        params = {"scale": scale, "bias": bias} if own else {}
        y = jnp.asarray(layer.apply({"params": params}, x))
        if own:
            return y
        space = tuple(range(1, x.ndim - 1))
        return y * jnp.expand_dims(scale.astype(wide), space) + jnp.expand_dims(
            bias.astype(wide), space
        )

    return jax.lax.platform_dependent(x, scale, bias, cpu=on_cpu, default=stock)


def first_deviation(
    x: Float[Array, "B *place C"],
) -> tuple[Float[Array, " C"], Bool[Array, " C"]]:
    """Standard deviation of each channel of a first batch, from which a layer takes its scale.

    A channel that is the same everywhere says nothing about its scale: a rare indicator, or any
    channel where there is but one row. A layer is to leave its scale at 1: the inverse of a
    deviation of 0 would make millions of the first other value that comes.

    Args:
        x: The first batch, ``[B, *place, C]``, float32 or wider.

    Returns:
        The deviation over all axes but the last, ``[C]``, and whether the channel varies, ``[C]``.

    Example:
        >>> first_deviation(jnp.array([[0.0, 5.0], [4.0, 5.0]]))
        (Array([2., 0.], dtype=float32), Array([ True, False], dtype=bool))
    """
    axes = tuple(range(x.ndim - 1))
    # Not by the deviation: the mean of equal numbers may differ from them by rounding.
    varies = jnp.max(x, axis=axes) > jnp.min(x, axis=axes)
    return jnp.std(x, axis=axes), varies


def _by_channel(x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float) -> Array:
    # Or x, and its gradient, are computed again wherever they are read.
    x = jax.lax.optimization_barrier(x)
    channels, space = x.shape[-1], tuple(range(1, x.ndim - 1))
    size = channels // num_groups
    count = size * math.prod(x.shape[1:-1])
    member = jnp.repeat(jnp.eye(num_groups, dtype=x.dtype), size, axis=0)  # [C, groups]
    mean = jnp.sum(x, axis=space) @ (member / count)
    # E[x^2] - E[x]^2, which needs one pass over x; rounding below 0 is taken out before the root.
    variance = jnp.sum(jnp.square(x), axis=space) @ (member / count) - jnp.square(mean)
    inverse = jax.lax.rsqrt(jnp.maximum(variance, 0.0) + epsilon)
    # (x - mean) * inverse * scale + bias as one slope and one offset for each channel.
    slope = (inverse @ member.T) * scale
    offset = bias - ((mean * inverse) @ member.T) * scale
    return x * jnp.expand_dims(slope, space) + jnp.expand_dims(offset, space)
