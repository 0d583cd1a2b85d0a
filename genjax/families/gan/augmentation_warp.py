"""Images under an affine map each: one resampling, with the low-pass filters of a wavelet."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# The low-pass filter of sym6, a wavelet that is nearly symmetric (Daubechies, "Ten Lectures on
# Wavelets", 1992, section 8.1). Its even shifts are orthonormal, so that going up and down again
# changes nothing.
_SYM6 = np.array([
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
])  # fmt: skip
_BEFORE = 5
"""Taps before the one of the sample that is counted as a pixel's."""
_OFFSET = float(_SYM6 @ np.arange(len(_SYM6)) / _SYM6.sum()) - _BEFORE
"""Place of a pixel in samples, from there: the filter's delay, about half a sample.

The authors take 1/2. With the delay itself, smooth images stay in place when they are turned.
"""


@functools.cache
def _upsampling(size: int) -> Any:
    """From pixels to samples at twice the rate, ``[4 * (size - 1), size]``.

    An axis goes on as its mirror image, without end: of a period of ``2 * (size - 1)`` pixels.
    """
    period = 2 * (size - 1)
    matrix = np.zeros((2 * period, size))
    for sample in range(2 * period):
        for tap, weight in enumerate(_SYM6):
            double = sample + _BEFORE - tap
            if double % 2 == 0:
                pixel = (double // 2) % period
                matrix[sample, min(pixel, period - pixel)] += np.sqrt(2.0) * weight
    return matrix.astype(np.float32)


@functools.cache
def _downsampling(size: int) -> Any:
    """From the samples that so many pixels reach to the pixels, ``[size, 2 * size + 10]``."""
    matrix = np.zeros((size, 2 * size + len(_SYM6) - 2))
    for pixel in range(size):
        matrix[pixel, 2 * pixel : 2 * pixel + len(_SYM6)] = _SYM6 / np.sqrt(2.0)
    return matrix.astype(np.float32)


def _resampled(images: Array, rows: Any, columns: Any) -> Array:
    """Images with a matrix applied to each axis, ``[B, C, H, W] -> [B, C, H2, W2]``."""
    across = jnp.einsum("jx,bcyx->bcyj", columns, images, precision="highest")
    return jnp.einsum("iy,bcyj->bcij", rows, across, precision="highest")


def _places(size: int) -> Any:
    """Where samples of the result are, in pixels from the middle of an axis."""
    sample = np.arange(2 * size + len(_SYM6) - 2) - _BEFORE
    return ((sample - _OFFSET) / 2 - (size - 1) / 2).astype(np.float32)


def warp(
    images: Float[Array, "B H W C"], backwards: Float[Array, "B 3 3"]
) -> Float[Array, "B H W C"]:
    """Each image under an affine map of its own.

    Images are mirrored at their edges, brought to twice their resolution, interpolated linearly
    there at the places that the map asks for, and brought back; both filters are sym6's. One gather
    takes the four neighbours of a place together: its gradient is a scatter, which is slow on CPU.

    Args:
        images: Images of at least 2 by 2 pixels, ``[B, H, W, C]``.
        backwards: The map from a place in the result to the place that its value comes from:
            homogeneous, of ``(x, y, 1)`` in pixels from the middle, to the right and downwards,
            ``[B, 3, 3]``.

    Returns:
        The images, ``[B, H, W, C]``, which depend linearly on the given ones. Shifts by whole
        pixels are exact up to rounding; mirroring and turns are not, as the filter is not
        symmetric.

    References:
        Karras et al., arXiv:2006.06676, appendix B. There an image ends where its mirror image
        does; here it goes on.
    """
    size, height, width, channels = images.shape
    fine = _resampled(jnp.moveaxis(images, 3, 1), _upsampling(height), _upsampling(width))
    x, y = jnp.asarray(_places(width))[None, None, :], jnp.asarray(_places(height))[None, :, None]

    def source(row: int, length: int) -> tuple[Array, Array]:
        a, b, c = (backwards[:, row, i, None, None] for i in range(3))
        sample = 2.0 * (a * x + b * y + c + (length - 1) / 2) + _OFFSET
        low = jnp.floor(sample)
        return low.astype(jnp.int32) % (4 * (length - 1)), sample - low

    (column, right), (line, down) = source(0, width), source(1, height)
    index = line * fine.shape[3] + column
    shares = [v * h for v in (1.0 - down, down) for h in (1.0 - right, right)]
    neighbours = [jnp.roll(fine, (-i, -j), (2, 3)) for i in (0, 1) for j in (0, 1)]
    table = jnp.stack(neighbours, -1).reshape(size, channels, -1, 4)
    # Kept apart: what goes into a gather is else computed again for each place that it takes.
    table, index, shares = jax.lax.optimization_barrier((table, index, shares))

    def take(rows: Array, places: Array) -> Array:
        return rows.at[places].get(mode="promise_in_bounds")

    found = jax.vmap(jax.vmap(take, in_axes=(0, None)))(table, index.reshape(size, -1))
    found = found.reshape(size, channels, *index.shape[1:], 4)
    mixed = sum(found[..., k] * shares[k][:, None] for k in range(4))
    mixed = jax.lax.optimization_barrier(mixed)
    return jnp.moveaxis(_resampled(mixed, _downsampling(height), _downsampling(width)), 1, 3)
