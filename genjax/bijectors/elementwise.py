r"""Invertible maps of single numbers whose parameters a network gives: affine, additive, spline.

They are what coupling and autoregressive layers apply. Raw parameters are any real numbers; at zero
each map is the identity (but for Glow's :func:`sigmoid_affine`). Logs of slopes are float32 or
wider, whatever the network's precision.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.dense import by_entry

Value: TypeAlias = Float[Array, "*#shape"]
"""Numbers that are mapped, or logs of slopes."""

Raw: TypeAlias = Float[Array, "*#shape P"]
"""Raw parameters of each number's map, on the last axis."""


class Elementwise(NamedTuple):
    """A family of increasing maps of the real line.

    Attributes:
        num_params: Number of raw parameters of a map.
        forward: The maps, ``(x [...], raw [..., num_params]) -> (y [...], log_slope [...])``.
        inverse: Their inverses, ``(y, raw) -> (x, log_slope of the inverse)``.
    """

    num_params: int
    forward: Callable[[Array, Array], tuple[Array, Array]]
    inverse: Callable[[Array, Array], tuple[Array, Array]]

    def by_entry(self, outputs: Float[Array, "*batch outputs"]) -> Float[Array, "*batch D P"]:
        """Outputs of a network, ``[..., D num_params]``, as parameters ``[..., D, num_params]``."""
        return by_entry(outputs, self.num_params)

    def towards(self, *, forward: bool) -> Callable[[Array, Array], tuple[Array, Array]]:
        """The maps if ``forward``, else their inverses."""
        return self.forward if forward else self.inverse


def at_least_float32(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Widens what is narrower than float32 and keeps the rest.

    Args:
        x: Numbers of any precision and shape.

    Returns:
        The same numbers, float32 or wider.
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _batch_last(
    function: Callable[[Array, Array], tuple[Array, Array]],
) -> Callable[[Array, Array], tuple[Array, Array]]:
    """A map of ``value [..., B]`` by ``raw [..., P, B]`` as one of ``[B, ...]`` by ``[B, ..., P]``.

    Loops over parameters are vectorised along the batch that way, not along the parameters; of
    batches of a few examples that makes little.
    """

    def mapped(value: Value, raw: Raw) -> tuple[Value, Value]:
        value, raw = at_least_float32(value), at_least_float32(raw)
        shape = jnp.broadcast_shapes(value.shape, raw.shape[:-1])
        value = jnp.broadcast_to(value, shape)
        raw = jnp.broadcast_to(raw, (*shape, raw.shape[-1]))
        if not shape:
            result, log_slope = function(value[None], raw[:, None])
            return result[0], log_slope[0]
        result, log_slope = function(jnp.moveaxis(value, 0, -1), jnp.moveaxis(raw, 0, -1))
        return jnp.moveaxis(result, -1, 0), jnp.moveaxis(log_slope, -1, 0)

    return mapped


def affine(*, max_log_scale: float = 3.0) -> Elementwise:
    r"""Maps :math:`y = e^s x + t` with :math:`s = c \tanh(r / c)`.

    Args:
        max_log_scale: Limit ``c > 0`` of the log scale ``s``, which is ``c tanh(r / c)`` of the raw
            parameter ``r``.

    Returns:
        The family, with two parameters: log scale and shift.

    Raises:
        ValueError: If the limit is not positive.

    Example:
        >>> affine().forward(jnp.array([2.0]), jnp.array([[0.0, 1.0]]))[0]
        Array([3.], dtype=float32)

    References:
        Dinh et al., Density estimation using Real NVP, arXiv:1605.08803, eq. 7 (with a learned
        scale in place of the fixed limit).
    """
    if not max_log_scale > 0:
        raise ValueError(f"max_log_scale must be positive, got {max_log_scale}")

    def split(
        raw: Float[Array, "*shape P"],
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        raw = at_least_float32(raw)
        # The tanh keeps a scale between exp(-c) and exp(c) and has slope 1 at 0.
        return max_log_scale * jnp.tanh(raw[..., 0] / max_log_scale), raw[..., 1]

    def forward(x: Value, raw: Raw) -> tuple[Value, Value]:
        log_scale, shift = split(raw)
        return x * jnp.exp(log_scale) + shift, log_scale

    def inverse(y: Value, raw: Raw) -> tuple[Value, Value]:
        log_scale, shift = split(raw)
        return (y - shift) * jnp.exp(-log_scale), -log_scale

    return Elementwise(2, forward, inverse)


def sigmoid_affine(*, offset: float = 0.0, max_scale: float = 2.0) -> Elementwise:
    r"""Maps :math:`y = c\,\sigma(r + o)\,(x + t)`, whose scale cannot exceed ``c``.

    A flow of such couplings can stretch space by :math:`\log c` at most in each, which bounds the
    density it can reach; what is beyond has to come from other layers.

    Args:
        offset: The number ``o`` that is added to the raw scale.
        max_scale: The limit ``c > 0`` of the scale.

    Returns:
        The family, with two parameters: scale and shift. The identity at raw zeros only if
        ``c sigmoid(o) = 1``, as with the defaults (Jet); Glow takes offset 2 and scale 1.

    Raises:
        ValueError: If the largest scale is not positive.

    Example:
        >>> sigmoid_affine().forward(jnp.array([2.0]), jnp.array([[0.0, 1.0]]))[0]
        Array([3.], dtype=float32)

    References:
        Kolesnikov et al., Jet, arXiv:2412.15129, section 3; Kingma and Dhariwal, Glow,
        arXiv:1807.03039, released code.
    """
    if not max_scale > 0:
        raise ValueError(f"max_scale must be positive, got {max_scale}")

    def split(
        raw: Float[Array, "*shape P"],
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        raw = at_least_float32(raw)
        # As a log from the start: the sigmoid itself underflows for very negative raw scales.
        return math.log(max_scale) + jax.nn.log_sigmoid(raw[..., 0] + offset), raw[..., 1]

    def forward(x: Value, raw: Raw) -> tuple[Value, Value]:
        log_scale, shift = split(raw)
        return (x + shift) * jnp.exp(log_scale), log_scale

    def inverse(y: Value, raw: Raw) -> tuple[Value, Value]:
        log_scale, shift = split(raw)
        return y * jnp.exp(-log_scale) - shift, -log_scale

    return Elementwise(2, forward, inverse)


def additive() -> Elementwise:
    """Shifts, which keep volumes.

    Returns:
        The family, with one parameter.

    Example:
        >>> additive().forward(jnp.array([2.0]), jnp.array([[1.0]]))
        (Array([3.], dtype=float32), Array([0.], dtype=float32))

    References:
        Dinh et al., NICE, arXiv:1410.8516, section 3.2.
    """

    def forward(x: Value, raw: Raw) -> tuple[Value, Value]:
        y = x + at_least_float32(raw[..., 0])
        return y, jnp.zeros_like(y)

    def inverse(y: Value, raw: Raw) -> tuple[Value, Value]:
        x = y - at_least_float32(raw[..., 0])
        return x, jnp.zeros_like(x)

    return Elementwise(1, forward, inverse)


def rational_quadratic_spline(
    *,
    num_bins: int = 8,
    bound: float = 3.0,
    min_bin: float = 1e-3,
    min_slope: float = 1e-3,
) -> Elementwise:
    r"""Monotone rational-quadratic splines on :math:`[-B, B]`, the identity outside.

    Widths and heights of the bins are softmaxes with a floor, slopes at the inner knots softplus
    with a floor; the slopes at the ends are 1, so that the map is smooth there. What lies outside
    the interval is moved to its edge before the maths of the spline, so that gradients there are
    finite.

    Args:
        num_bins: Number of bins ``K``, at least 1.
        bound: Half the length of the interval, ``B``, in the units of the entries.
        min_bin: Least width and height of a bin, as a share of the interval, in (0, 1/K).
        min_slope: Least slope at a knot, in (0, 1).

    Returns:
        The family, with ``3 K - 1`` parameters: widths, heights, inner slopes.

    Raises:
        ValueError: If there are no bins, or the floors leave nothing to share out.

    Example:
        >>> spline = rational_quadratic_spline()
        >>> y, log_slope = spline.forward(jnp.array([0.5, 9.0]), jnp.zeros((2, 23)))
        >>> [round(float(v), 5) for v in y]
        [0.5, 9.0]

    References:
        Durkan et al., Neural Spline Flows, arXiv:1906.04032, eq. 4-8; Gregory and Delbourgo, 1982.
    """
    if num_bins < 1 or not bound > 0:
        raise ValueError(f"expected at least one bin and a positive bound, got {num_bins}, {bound}")
    if not 0 < min_bin * num_bins < 1 or not 0 < min_slope < 1:
        raise ValueError(
            f"expected 0 < min_bin < 1 / num_bins and 0 < min_slope < 1, got {min_bin}, {min_slope}"
        )
    # softplus(offset) + min_slope = 1: the identity where raw slopes are 0.
    offset = math.log(math.expm1(1.0 - min_slope))

    # From here on the parameters of a map lie on the axis before the last. Equations are those of
    # Durkan et al., section 3.1, with s = height / width of a bin (`mean` here, its mean slope),
    # d_k and d_k+1 the slopes at its ends (`low`, `high`) and xi the position in it from 0 to 1
    # (`share`).
    def knots(raw: Array) -> Array:
        shares = min_bin + (1.0 - min_bin * num_bins) * jax.nn.softmax(raw, axis=-2)
        # From -B to B exactly, however the cumulative sum rounds.
        inner = 2.0 * bound * jnp.cumsum(shares, axis=-2)[..., :-1, :] - bound
        ends = jnp.full_like(inner, bound, shape=(*raw.shape[:-2], 1, raw.shape[-1]))
        return jnp.concatenate([-ends, inner, ends], axis=-2)

    def pieces(value: Array, raw: Array, by: int) -> tuple[Array, ...]:
        """The bin of each value: left knot, width, height, and slopes at both ends."""
        x_knots = knots(raw[..., :num_bins, :])
        y_knots = knots(raw[..., num_bins : 2 * num_bins, :])
        inner = min_slope + jax.nn.softplus(raw[..., 2 * num_bins :, :] + offset)
        # Slope 1 at both ends: there the spline meets the identity, and the slope does not jump.
        ones = jnp.ones_like(value)[..., None, :]
        slopes = jnp.concatenate([ones, inner, ones], axis=-2)
        borders = (x_knots, y_knots)[by][..., 1:-1, :]
        # The bin is the number of inner knots at or below the value.
        index = jnp.sum(value[..., None, :] >= borders, axis=-2)
        # A sum over a one-hot vector: gathers are slow on accelerators.
        chosen = jax.nn.one_hot(index, num_bins, dtype=raw.dtype, axis=-2)

        def pick(values: Array) -> Array:
            return jnp.sum(chosen * values, axis=-2)

        lows, highs = (..., slice(None, -1), slice(None)), (..., slice(1, None), slice(None))
        left_x, left_y = pick(x_knots[lows]), pick(y_knots[lows])
        width = pick(x_knots[highs] - x_knots[lows])
        height = pick(y_knots[highs] - y_knots[lows])
        return left_x, left_y, width, height, pick(slopes[lows]), pick(slopes[highs])

    def log_slope_at(share: Array, mean: Array, low: Array, high: Array) -> Array:
        """Log of the slope at a share of a bin of mean slope ``mean``, end slopes ``low, high``."""
        # The log of eq. 5.
        rest = share * (1.0 - share)
        numerator = high * share**2 + 2.0 * mean * rest + low * (1.0 - share) ** 2
        denominator = mean + (high + low - 2.0 * mean) * rest
        return 2.0 * jnp.log(mean) + jnp.log(numerator) - 2.0 * jnp.log(denominator)

    def outside(value: Array) -> tuple[Array, Array]:
        return jnp.abs(value) >= bound, jnp.clip(value, -bound, bound)

    def forward(
        x: Float[Array, "*rest B"], raw: Float[Array, "*rest P B"]
    ) -> tuple[Float[Array, "*rest B"], Float[Array, "*rest B"]]:
        out, inside = outside(x)
        left_x, left_y, width, height, low, high = pieces(inside, raw, 0)
        mean, share = height / width, (inside - left_x) / width
        # Eq. 4.
        rest = share * (1.0 - share)
        y = left_y + height * (mean * share**2 + low * rest) / (
            mean + (high + low - 2.0 * mean) * rest
        )
        log_slope = log_slope_at(share, mean, low, high)
        return jnp.where(out, x, y), jnp.where(out, 0.0, log_slope)

    def inverse(
        y: Float[Array, "*rest B"], raw: Float[Array, "*rest P B"]
    ) -> tuple[Float[Array, "*rest B"], Float[Array, "*rest B"]]:
        out, inside = outside(y)
        left_x, left_y, width, height, low, high = pieces(inside, raw, 1)
        mean, above = height / width, inside - left_y
        curve = high + low - 2.0 * mean
        # Eq. 4 solved for xi: a xi^2 + b xi + c = 0 with the coefficients of eq. 6 to 8.
        a = height * (mean - low) + above * curve
        b = height * low - above * curve
        c = -mean * above
        # The discriminant is below 0 by rounding only. This form of the root divides by no a, which
        # is 0 where the curve is a straight line.
        root = jnp.sqrt(jnp.maximum(b * b - 4.0 * a * c, 0.0))
        share = 2.0 * c / (-b - root)
        x = left_x + share * width
        # The slope of the inverse is one over that of the map at the x that was found.
        log_slope = log_slope_at(share, mean, low, high)
        return jnp.where(out, y, x), jnp.where(out, 0.0, -log_slope)

    return Elementwise(3 * num_bins - 1, _batch_last(forward), _batch_last(inverse))


def sum_event(values: Float[Array, "B *event"]) -> Float[Array, " B"]:
    """Sums over all axes but the first, in float32 or wider.

    Args:
        values: One number for each entry, ``[B, *event]``.

    Returns:
        The sum of each row, ``[B]``.
    """
    return jnp.sum(at_least_float32(values), axis=tuple(range(1, values.ndim)))
