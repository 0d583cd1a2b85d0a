"""Random changes of images that a critic sees: differentiable in the images, each row its own."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from genjax.families.gan.augmentation_warp import warp

Pipeline: TypeAlias = Literal["b", "bg", "bgc", "diff_augment"]
"""Pixel ``b``\\ litting, general ``g``\\ eometry and ``c``\\ olours of ADA; or DiffAugment."""

_LUMA = np.array([1.0, 1.0, 1.0, 0.0]) / np.sqrt(3.0)
_COLOURS = np.diag([1.0, 1.0, 1.0, 0.0]).astype(np.float32)
_ALONG = np.outer(_LUMA, _LUMA).astype(np.float32)
# The cross product with the luma axis.
_AROUND = (
    np.array([[0, -1, 1, 0], [1, 0, -1, 0], [-1, 1, 0, 0], [0, 0, 0, 0]]) / np.sqrt(3.0)
).astype(np.float32)


def augment(
    images: Float[Array, "B H W C"],
    strength: Float[Array, ""],
    key: PRNGKeyArray,
    pipeline: Pipeline = "bgc",
) -> Float[Array, "B H W C"]:
    """Images as a critic sees them: each changed in ways that are drawn for it.

    Args:
        images: Images in [-1, 1], ``[B, H, W, C]``; of 1 or 3 channels where colours change.
        strength: Probability of each change, ``[]``; above 1 it is 1. Below 1 a generator can tell
            which changes belong to the data (Karras et al., section 2.2): from about 0.8 on, some
            may leak into samples.
        key: Random key.
        pipeline: ``"b"``, mirroring, quarter turns and shifts by whole pixels; ``"bg"``, turns,
            scales and shifts of any kind as well; ``"bgc"``, colours as well; ``"diff_augment"``,
            shifts, cut-out squares and colours as in DiffAugment.

    Returns:
        The images, ``[B, H, W, C]``; those that nothing was drawn for bit for bit.

    References:
        Karras et al., Training GANs with Limited Data, arXiv:2006.06676, appendix B; Zhao et al.,
        DiffAugment, arXiv:2006.10738, section 3.
    """
    if pipeline == "diff_augment":
        return _diff_augment(images, strength, key)
    key_pixels, key_geometry, key_colour = jax.random.split(key, 3)
    images = _moved_pixels(key_pixels, strength, images)
    if pipeline == "b":
        return images
    maps = _geometry(key_geometry, strength, images.shape[0], images.shape[1:3])
    # An image that stays is not resampled.
    moved = jnp.any(maps != jnp.eye(3), axis=(1, 2))
    images = jnp.where(moved[:, None, None, None], warp(images, maps), images)
    return _coloured(key_colour, strength, images) if pipeline == "bgc" else images


def _switched(
    key: PRNGKeyArray, chance: Array, value: Shaped[Array, "B *extra"], neutral: Any
) -> Shaped[Array, "B *extra"]:
    """Values of the rows that are to change, and a neutral one for the others."""
    chosen = jax.random.uniform(key, value.shape[:1]) < chance
    return jnp.where(chosen.reshape(-1, *(1,) * (value.ndim - 1)), value, neutral)


def _chain(*maps: Array) -> Array:
    """The product of matrices, ``[B, N, N]``."""
    product = maps[0]
    for factor in maps[1:]:
        product = jnp.matmul(product, factor, precision="highest")
    return product


def _affine(rows: list[list[Any]]) -> Float[Array, "B 3 3"]:
    """Homogeneous matrices from their entries, numbers or ``[B]``."""
    entries = jnp.broadcast_arrays(*[jnp.asarray(e, jnp.float32) for row in rows for e in row])
    return jnp.stack(entries, -1).reshape(-1, 3, 3)


def _turn(angle: Float[Array, " B"]) -> Float[Array, "B 3 3"]:
    c, s = jnp.cos(angle), jnp.sin(angle)
    return _affine([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _stretch(x: Float[Array, " B"], y: Any) -> Float[Array, "B 3 3"]:
    return _affine([[x, 0, 0], [0, y, 0], [0, 0, 1]])


def _shift(by: Float[Array, "B 2"]) -> Float[Array, "B 3 3"]:
    return _affine([[1, 0, by[:, 0]], [0, 1, by[:, 1]], [0, 0, 1]])


def _lines(images: Array, source: Array, axis: int) -> Array:
    """Lines of images ``[B, H, W, C]`` along an axis by their numbers ``[B, N]``; outside is 0."""
    # One-hot rows choose exactly, and their gradient is a product where a gather's is a scatter.
    chosen = jax.nn.one_hot(source, images.shape[axis], dtype=images.dtype)
    equation = "biy,byxc->bixc" if axis == 1 else "bjx,byxc->byjc"
    return jnp.einsum(equation, chosen, images, precision="highest")


def _moved_pixels(key: PRNGKeyArray, strength: Array, images: Array) -> Array:
    """Images mirrored, turned by quarters and shifted by whole pixels: pixel for pixel."""
    draws, rows = jax.random.split(key, (3, 2)), images.shape[0]
    sides = images.shape[1:3]
    mirrored = jax.random.bernoulli(draws[0, 0], 0.5, (rows, 1, 1, 1))
    mirrored = _switched(draws[0, 1], strength, mirrored, False)
    images = jnp.where(mirrored, images[:, :, ::-1], images)
    # What is not square keeps its shape in half turns only.
    kinds = range(4) if sides[0] == sides[1] else (0, 2)
    drawn = jax.random.randint(draws[1, 0], (rows, 1, 1, 1), 0, len(kinds))
    drawn = _switched(draws[1, 1], strength, drawn, 0)
    turned = images
    for i, quarters in enumerate(kinds):
        turned = jnp.where(drawn == i, jnp.rot90(images, quarters, (1, 2)), turned)
    share = jax.random.uniform(draws[2, 0], (rows, 2), minval=-0.125, maxval=0.125)
    share = _switched(draws[2, 1], strength, share, 0.0)
    shifted = turned
    for axis, side in enumerate(sides):
        by = jnp.round(share[:, axis, None] * side).astype(jnp.int32)
        # Beyond the edge an image goes on as its mirror image.
        source = jnp.abs(jnp.arange(side) - by)
        source = jnp.where(source < side, source, 2 * (side - 1) - source)
        shifted = _lines(shifted, source, axis + 1)
    stays = jnp.all(share == 0, axis=1)[:, None, None, None]
    return jnp.where(stays, turned, shifted)


def _geometry(
    key: PRNGKeyArray, strength: Array, rows: int, size: tuple[int, ...]
) -> Float[Array, "B 3 3"]:
    """Maps from places in the results to places in the images: see :func:`warp`."""
    draws = jax.random.split(key, (5, 2))

    def chosen(i: int, value: Array, neutral: float, chance: Array = strength) -> Array:
        return _switched(draws[i, 1], chance, value, neutral)

    def turn(i: int) -> Array:
        # Two turns, one of which at least is made with the probability of a change.
        one = 1.0 - jnp.sqrt(jnp.clip(1.0 - strength, 0.0, 1.0))
        angle = jax.random.uniform(draws[i, 0], (rows,), minval=-np.pi, maxval=np.pi)
        return _turn(chosen(i, angle, 0.0, one))

    scale = chosen(0, jnp.exp2(0.2 * jax.random.normal(draws[0, 0], (rows,))), 1.0)
    aspect = chosen(2, jnp.exp2(0.2 * jax.random.normal(draws[2, 0], (rows,))), 1.0)
    move = chosen(4, 0.125 * jax.random.normal(draws[4, 0], (rows, 2)), 0.0)
    return _chain(
        _stretch(1.0 / scale, 1.0 / scale),
        turn(1),
        _stretch(1.0 / aspect, aspect),
        turn(3),
        _shift(move * jnp.array([size[1], size[0]], jnp.float32)),
    )


def _colour(key: PRNGKeyArray, strength: Array, rows: int, hues: bool) -> Float[Array, "B 4 4"]:
    """Homogeneous maps of colours; of grey images hue and saturation change nothing."""
    draws = jax.random.split(key, (5, 2))

    def drawn(i: int, value: Array, neutral: float) -> Array:
        return _switched(draws[i, 1], strength, value, neutral)[:, None, None]

    def normal(i: int) -> Array:
        return jax.random.normal(draws[i, 0], (rows,))

    same, offset = jnp.eye(4), jnp.array([[0.0, 0, 0, 1]] * 3 + [[0.0] * 4])
    brighter = same + drawn(0, 0.2 * normal(0), 0.0) * offset
    gain = drawn(1, jnp.exp2(0.5 * normal(1)), 1.0)
    contrast = same * jnp.where(jnp.arange(4) < 3, gain, 1.0)
    flipped = drawn(2, jax.random.bernoulli(draws[2, 0], 0.5, (rows,)).astype(jnp.float32), 0.0)
    maps = [same - 2.0 * flipped * _ALONG, contrast, brighter]
    if hues:
        angle = drawn(3, jax.random.uniform(draws[3, 0], (rows,), minval=-np.pi, maxval=np.pi), 0.0)
        kept = drawn(4, jnp.exp2(normal(4)), 1.0)
        # The fourth entry is 1, and stays.
        hue = same + jnp.sin(angle) * _AROUND + (1.0 - jnp.cos(angle)) * (_ALONG - _COLOURS)
        maps = [same + (kept - 1.0) * (_COLOURS - _ALONG), hue, *maps]
    return _chain(*maps)


def _coloured(key: PRNGKeyArray, strength: Array, images: Array) -> Array:
    """Images under a map of colours each; grey ones under its mean over colours."""
    channels = images.shape[-1]
    maps = _colour(key, strength, images.shape[0], channels == 3)
    changed = jnp.any(maps != jnp.eye(4), axis=(1, 2))
    linear, offset = maps[:, :3, :3], maps[:, :3, 3]
    if channels == 1:
        linear = jnp.mean(jnp.sum(linear, 2), 1)[:, None, None]
        offset = jnp.mean(offset, 1)[:, None]
    # Written out: a product of so small matrices is slower, and is rounded on accelerators.
    mixed = sum(linear[:, None, None, :, j] * images[..., j, None] for j in range(channels))
    mixed += offset[:, None, None]
    return jnp.where(changed[:, None, None, None], mixed, images)


def _diff_augment(images: Array, strength: Array, key: PRNGKeyArray) -> Array:
    """Colours, shifts with zeros at the edges, and a square of zeros of half the side."""
    draws = jax.random.split(key, (3, 4))
    rows, sides = images.shape[0], images.shape[1:3]

    def uniform(i: int, low: float, high: float) -> Array:
        return jax.random.uniform(draws[0, i], (rows, 1, 1, 1), minval=low, maxval=high)

    def selected(i: int, changed: Array, old: Array) -> Array:
        chosen = jax.random.uniform(draws[i, 3], (rows, 1, 1, 1)) < strength
        return jnp.where(chosen, changed, old)

    x = images + uniform(0, -0.5, 0.5)
    for i, axes, low, high in ((1, (-1,), 0.0, 2.0), (2, (1, 2, 3), 0.5, 1.5)):
        mean = jnp.mean(x, axes, keepdims=True)
        x = mean + uniform(i, low, high) * (x - mean)
    images = selected(0, x, images)

    moved, outside = images, []
    for axis, side in enumerate(sides):
        most, cut = int(side / 8 + 0.5), int(side / 2 + 0.5)
        by = jax.random.randint(draws[1, axis], (rows, 1), -most, most + 1)
        moved = _lines(moved, jnp.arange(side) - by, axis + 1)
        first = jax.random.randint(draws[2, axis], (rows, 1), 0, side + 1 - cut % 2) - cut // 2
        outside.append((jnp.arange(side) < first) | (jnp.arange(side) >= first + cut))
    images = selected(1, moved, images)
    kept = outside[0][:, :, None] | outside[1][:, None, :]
    return selected(2, jnp.where(kept[..., None], images, 0.0), images)
