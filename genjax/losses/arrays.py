"""What all losses do with their arguments first: widen them and compare their shapes.

Losses are computed in float32 or wider: squares of float16 leave its range beyond 256, and sums in
bfloat16 stop growing after a few hundred terms.
"""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def widened(values: Any) -> Array:
    """Numbers as an array of float32, or float64 where they are.

    Args:
        values: An array, a number or nested lists of numbers, of any shape. What is narrower than
            float32 is widened, whole numbers and truth values become floating point.

    Returns:
        The same numbers, of the same shape.

    Raises:
        ValueError: If they are no real numbers.

    Example:
        >>> jnp.square(widened(jnp.array([300.0], jnp.float16)))
        Array([90000.], dtype=float32)
    """
    array = jnp.asarray(values)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"expected real numbers, got {array.dtype}: take .real or jnp.abs of it")
    kept = array.dtype in (jnp.float32, jnp.float64)
    return array if kept else array.astype(jnp.float32)


def paired(**arrays: Any) -> tuple[Array, ...]:
    """Widened arrays that hold one number each for the same things, and so have one shape.

    Broadcasting would make ``[B, B]`` of ``[B]`` and ``[B, 1]`` without a word, and a mean of that
    is a loss of all pairs.

    Args:
        **arrays: The arrays by name, for the message.

    Returns:
        The arrays in their order, see :func:`widened`.

    Raises:
        ValueError: If their shapes differ.

    Example:
        >>> [a.shape for a in paired(real=[1.0, 2.0], fake=jnp.zeros(2))]
        [(2,), (2,)]
    """
    wide = {name: widened(array) for name, array in arrays.items()}
    check_same_shape(**wide)
    return tuple(wide.values())


def check_same_shape(**arrays: Array) -> None:
    """Refuses arrays of different shapes.

    Args:
        **arrays: The arrays by name, for the message.

    Raises:
        ValueError: If their shapes differ; it names them all and the likely fix.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) < 2:
        return
    said = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    raise ValueError(f"expected arrays of one shape, got {said}: {_likely_fix(shapes)}")


def _likely_fix(shapes: dict[str, tuple[int, ...]]) -> str:
    """What most likely makes the shapes one."""
    least = min(len(shape) for shape in shapes.values())
    longest = max(shapes, key=lambda name: len(shapes[name]))
    extra = shapes[longest][least:]
    if extra and set(extra) == {1}:
        axes = "axis" if len(extra) == 1 else "axes"
        return (
            f"drop the trailing {axes} of {longest} ({longest}.reshape({longest}.shape[:{least}]))"
        )
    if len({shape[:1] for shape in shapes.values()}) > 1:
        return "give as many rows of each"
    return "give one number for each entry of each row"


def whole_levels(levels: Any, num_levels: int) -> Array:
    """Grey levels, which must be of an integer type.

    Images in [0, 1] or [-1, 1] taken for levels would be a few of the darkest levels, without a
    word, and score several bits a dimension off.

    Args:
        levels: Whole numbers in ``[0, num_levels)``, of any shape.
        num_levels: Number of grey levels.

    Returns:
        The same array.

    Raises:
        ValueError: If they are floating point.
    """
    array = jnp.asarray(levels)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"expected grey levels as whole numbers from 0 to {num_levels - 1}, got "
            f"{array.dtype}: give the levels themselves (uint8, say), not their place in an "
            "interval"
        )
    return array


def per_row(
    values: Shaped[Array, "*batch"], like: Shaped[Array, "B *event"]
) -> Shaped[Array, "..."]:
    """Gives a scalar or ``[B]`` quantity the trailing axes to broadcast against ``like``.

    Args:
        values: A number, or one for each row of ``like``.
        like: Rows, ``[B, *event]``.

    Returns:
        ``[]`` or ``[B, 1, ...]``, of the type of ``values``.

    Raises:
        ValueError: If ``values`` is neither.

    Example:
        >>> per_row(jnp.zeros(3), jnp.zeros((3, 4, 4, 1))).shape
        (3, 1, 1, 1)
    """
    if values.ndim not in (0, 1) or (values.ndim == 1 and values.shape[0] != like.shape[0]):
        raise ValueError(
            f"expected one value or one value a row ([{like.shape[0]}]), got shape {values.shape}"
        )
    return values.reshape(values.shape + (1,) * (like.ndim - 1)) if values.ndim else values


def for_entries(values: Float[Array, "..."], like: Float[Array, "B *event"]) -> Float[Array, "..."]:
    """A number, one a row, or one for each entry, to broadcast against entries.

    Args:
        values: Numbers ``[]``, ``[B]`` or ``[B, *event]``.
        like: What they go with, ``[B, *event]``.

    Returns:
        The numbers, widened, of as many axes as ``like`` or none.

    Raises:
        ValueError: If they are none of the three.

    Example:
        >>> for_entries(jnp.ones(2), jnp.zeros((2, 3))).shape
        (2, 1)
    """
    values = widened(values)
    return values if values.shape == like.shape else per_row(values, like)


def inverse_scale(log_scale: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """One over a scale that is given by its log, at most so large that a square of it is finite.

    Args:
        log_scale: Logs of scales, of any shape.

    Returns:
        The inverses, of the same shape: 0 over any scale is 0, not 0 times infinity.
    """
    limit = 0.5 * math.log(jnp.finfo(log_scale.dtype).max) - 1.0
    return jnp.exp(jnp.minimum(-log_scale, limit))


def sum_event(values: Float[Array, "B *event"]) -> Float[Array, " B"]:
    """Sums over all axes but the first.

    Args:
        values: One number for each entry, ``[B, *event]``.

    Returns:
        The sum of each row, ``[B]``.
    """
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))
