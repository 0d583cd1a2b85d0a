"""Changing the size of images through a filter, one axis after the other.

Images are stretched with zeros, filtered and thinned out ("upfirdn"). Filters here are short and
the same for all channels, so that each axis is a sum of a few slices: of the stretched image no
zero is ever made, and of the filtered one nothing that is dropped. A convolution that mixes no
channels would be the same sum, on CPU many times slower.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def resample(
    x: Float[Array, "B H W C"],
    taps: Sequence[float],
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    gain: float = 1.0,
) -> Float[Array, "B H2 W2 C"]:
    """Stretches by ``up``, filters and keeps every ``down``-th pixel, along height and width.

    Args:
        x: Images, ``[B, H, W, C]``.
        taps: The filter along each axis; that of images is its outer product with itself.
        up: Each pixel is followed by ``up - 1`` zeros.
        down: Of the filtered pixels every ``down``-th is kept, from the first on.
        padding: Zeros before and after the stretched pixels, along each axis.
        gain: Factor along each axis; with taps that sum up to one, ``up`` keeps the mean.

    Returns:
        Images of ``ceil((H up + sum(padding) - K + 1) / down)`` rows, where ``K`` is the number of
        taps, and likewise of columns.

    Raises:
        ValueError: If the filter is longer than the padded image.

    References:
        :func:`scipy.signal.upfirdn`, along each axis; Karras et al., arXiv:1912.04958, appendix B.
    """
    weights = [gain * float(tap) for tap in taps]
    for axis in (1, 2):
        x = _along(x, axis, weights, up, down, padding)
    return x


def upsample(x: Float[Array, "B H W C"], taps: Sequence[int]) -> Float[Array, "B H2 W2 C"]:
    """Doubles height and width.

    Args:
        x: Images, ``[B, H, W, C]``.
        taps: Filter, which is brought to a sum of one, such as ``(1, 3, 3, 1)``.

    Returns:
        Images, ``[B, 2 H, 2 W, C]``; constant images stay as they are, but for their edges.
    """
    k = len(taps)
    return resample(x, unit(taps), up=2, padding=((k + 1) // 2, (k - 2) // 2), gain=2.0)


def downsample(x: Float[Array, "B H W C"], taps: Sequence[int]) -> Float[Array, "B H2 W2 C"]:
    """Halves height and width: see :func:`upsample`."""
    k = len(taps)
    return resample(x, unit(taps), down=2, padding=((k - 1) // 2, (k - 2) // 2))


def unit(taps: Sequence[int]) -> tuple[float, ...]:
    """A filter of the same shape whose taps add up to one.

    Example:
        >>> unit((1, 3, 3, 1))
        (0.125, 0.375, 0.375, 0.125)
    """
    return tuple(tap / sum(taps) for tap in taps)


def _along(
    x: Array, axis: int, taps: Sequence[float], up: int, down: int, padding: tuple[int, int]
) -> Array:
    """:func:`resample` along one axis."""
    low, high = padding
    filtered = x.shape[axis] * up + low + high - len(taps) + 1
    if filtered < 1:
        raise ValueError(
            f"expected at least {len(taps)} padded pixels for a filter of {len(taps)} taps, got "
            f"{x.shape[axis] * up + low + high}"
        )
    # Filtered pixel m is the sum over k of taps[k] stretched[m + K - 1 - k - low], and stretched
    # pixel i up is pixel i. Of m = q up + r so only taps count for which the rest is a multiple of
    # up: each phase r is a filter of its own, of the unstretched pixels q + offset.
    reach = len(taps) - 1 - low
    phases = [
        [(tap, (r + reach - k) // up) for k, tap in enumerate(taps) if not (r + reach - k) % up]
        for r in range(up)
    ]
    count = -(-filtered // up)
    offsets = [offset for phase in phases for _, offset in phase]
    before = max(0, -min(offsets))
    after = max(0, max(offsets) + count - x.shape[axis])
    pads = [(0, 0)] * x.ndim
    pads[axis] = (before, after)
    padded = jnp.pad(x, pads)
    # Thinned out at once where there is one phase only.
    stride = down if up == 1 else 1
    sums = [
        sum(
            (
                tap
                * lax.slice_in_dim(
                    padded, before + offset, before + offset + count, stride=stride, axis=axis
                )
                for tap, offset in phase
            ),
            start=jnp.zeros((), x.dtype),
        )
        for phase in phases
    ]
    if up == 1:
        return sums[0]
    shape = list(sums[0].shape)
    shape[axis] *= up
    sums = [jnp.broadcast_to(phase, (*shape[:axis], count, *shape[axis + 1 :])) for phase in sums]
    together = jnp.stack(sums, axis=axis + 1).reshape(shape)
    return lax.slice_in_dim(together, 0, filtered, stride=down, axis=axis)
