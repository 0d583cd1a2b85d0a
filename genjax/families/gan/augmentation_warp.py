"""Images under an affine map each: one resampling, with the low-pass filters of a wavelet."""

import functools
from typing import Any, TypeAlias

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
    there at the places that the map asks for, and brought back; both filters are sym6's. On CPU
    four gathers are faster than one of four neighbours, but one scatter, which is the gradient, is
    faster than four: each is written as it is fast.

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
    shares = [v * h for v in (1.0 - down, down) for h in (1.0 - right, right)]
    # Kept apart: what goes into a gather is else computed again for each place that it takes.
    fine, *where = jax.lax.optimization_barrier((fine, line, column, jnp.stack(shares)))
    mixed = jax.lax.optimization_barrier(_interpolated(tuple(where), fine))
    return jnp.moveaxis(_resampled(mixed, _downsampling(height), _downsampling(width)), 1, 3)


_Where: TypeAlias = tuple[Array, Array, Array]
"""Lines and columns ``[B, I, J]`` of first neighbours, and shares of the four ``[4, B, I, J]``."""


@jax.custom_vjp
def _interpolated(where: _Where, fine: Array) -> Array:
    """What is at places between samples, ``[B, C, H, W] -> [B, C, I, J]``."""
    line, column, shares = where
    size, channels, height, width = fine.shape
    rows = jax.lax.optimization_barrier(jnp.moveaxis(fine, 1, 3)).reshape(-1, channels)
    first = (jnp.arange(size) * height * width)[:, None, None]
    total = jnp.zeros((*line.shape, channels), fine.dtype)
    for share, (down, right) in zip(shares, _NEIGHBOURS, strict=True):
        index = (line + down) % height * width + (column + right) % width + first
        index = jax.lax.optimization_barrier(index)
        total += rows.at[index].get(mode="promise_in_bounds") * share[..., None]
    return jnp.moveaxis(total, 3, 1)


def _spread(where: _Where, size: tuple[int, int], found: Array) -> Array:
    """The adjoint of :func:`_interpolated`: all four neighbours of a place in one scatter."""
    (line, column, shares), (height, width) = where, size
    index = (line * width + column).reshape(len(line), -1)
    parts = jnp.moveaxis(shares, 0, -1)[:, None] * found[..., None]
    parts = parts.reshape(*found.shape[:2], -1, 4)
    index, parts = jax.lax.optimization_barrier((index, parts))

    def add(places: Array, values: Array) -> Array:
        return jnp.zeros((height * width, 4)).at[places].add(values, mode="promise_in_bounds")

    table = jax.vmap(jax.vmap(add, in_axes=(None, 0)))(index, parts)
    table = table.reshape(*found.shape[:2], height, width, 4)
    moved = [jnp.roll(table[..., k], by, (2, 3)) for k, by in enumerate(_NEIGHBOURS)]
    return moved[0] + moved[1] + moved[2] + moved[3]


def _forwards(where: _Where, fine: Array) -> tuple[Array, tuple[_Where, Array]]:
    return _interpolated(where, fine), (where, jnp.zeros((*fine.shape[2:], 0)))


def _backwards(kept: tuple[_Where, Array], slope: Array) -> tuple[None, Array]:
    where, size = kept  # an array of no entries, of this height and width
    return None, _spread(where, (size.shape[0], size.shape[1]), slope)


_interpolated.defvjp(_forwards, _backwards)
_NEIGHBOURS = ((0, 0), (0, 1), (1, 0), (1, 1))
