"""What networks that look at earlier entries only have in common."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def as_numbers(x: Array, num_levels: int | None) -> Float[Array, "B *event"]:
    """Data as networks compute with it.

    Args:
        x: Whole grey levels or real numbers, ``[B, *event]``.
        num_levels: Number of grey levels, or None for real numbers.

    Returns:
        Levels spread over [-1, 1], or the numbers as they are; float32.
    """
    numbers = x.astype(jnp.float32)
    if num_levels is None:
        return numbers
    return numbers * (2.0 / (num_levels - 1)) - 1.0


def shift(
    x: Float[Array, "B H W C"], *, rows: int = 0, columns: int = 0
) -> Float[Array, "B H W C"]:
    """Moves images down and to the right; zeros come in, and what goes out is lost.

    Args:
        x: Images or maps of features, ``[B, H, W, C]``.
        rows: Pixels to go down.
        columns: Pixels to go to the right.

    Returns:
        The moved images, ``[B, H, W, C]``.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (rows, 0), (columns, 0), (0, 0)))
    return padded[:, :height, :width]
