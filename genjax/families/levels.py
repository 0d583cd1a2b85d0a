"""Whole grey levels and the units that models work in, there and back.

Three conventions are in use, and they are not interchangeable: a density is that of bins which fill
an interval without gap or overlap, a decoder scores their centres, and a generator with a ``tanh``
reaches exactly the ends.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array

from genjax import losses
from genjax.losses.arrays import whole_levels


@runtime_checkable
class Units(Protocol):
    """Data to the units of a model, and back."""

    def encode(self, x: Array, noise: Array | None = None) -> Array:
        """Model units of data ``[B, *event]``; ``noise`` in [0, 1) is spread over bins."""
        ...

    def decode(self, y: Array) -> Array:
        """The data that model units stand for, ``[B, *event]``."""
        ...


@dataclasses.dataclass(frozen=True)
class Reals:
    """Real-valued data, which models take as it is."""

    def encode(self, x: Array, noise: Array | None = None) -> Array:
        """The data itself, ``[B, *event]``."""
        return x

    def decode(self, y: Array) -> Array:
        """The data itself, ``[B, *event]``."""
        return y


@dataclasses.dataclass(frozen=True)
class Ends:
    """Level 0 is -1 and the highest level is 1, as generators that end in a ``tanh`` have it.

    Attributes:
        num_levels: Number of grey levels.

    Example:
        >>> Ends(3).encode(jnp.array([0, 1, 2], jnp.uint8))
        Array([-1.,  0.,  1.], dtype=float32)
    """

    num_levels: int

    def encode(self, x: Array, noise: Array | None = None) -> Array:
        """Levels ``[B, *event]`` to [-1, 1], float32."""
        levels = whole_levels(x, self.num_levels)
        return levels.astype(jnp.float32) * (2.0 / (self.num_levels - 1)) - 1.0

    def decode(self, y: Array) -> Array:
        """The nearest levels, ``[B, *event]``."""
        return as_levels(jnp.round((y + 1.0) * (0.5 * (self.num_levels - 1))), self.num_levels)


@dataclasses.dataclass(frozen=True)
class Centres:
    """Each level is the centre of its bin of [-1, 1]: what the decoder of a diffusion model scores.

    Attributes:
        num_levels: Number of grey levels.
    """

    num_levels: int

    def encode(self, x: Array, noise: Array | None = None) -> Array:
        """Levels ``[B, *event]`` to (-1, 1), float32: see :func:`genjax.losses.grey_levels`."""
        return losses.grey_levels(x, self.num_levels)

    def decode(self, y: Array) -> Array:
        """The levels whose centres are nearest, where decoder logits have their maximum."""
        return as_levels(jnp.round((y + 1.0) * (0.5 * self.num_levels) - 0.5), self.num_levels)


@dataclasses.dataclass(frozen=True)
class Bins:
    """Each level is a bin of ``[low, high)`` that noise fills: what densities are fitted to.

    Attributes:
        num_levels: Number of grey levels.
        low: Where the bin of level 0 begins.
        high: Where the bin of the highest level ends.

    Example:
        >>> Bins(4).encode(jnp.array([0, 3], jnp.uint8), jnp.array([0.5, 0.5]))
        Array([0.125, 0.875], dtype=float32)
    """

    num_levels: int
    low: float = 0.0
    high: float = 1.0

    def encode(self, x: Array, noise: Array | None = None) -> Array:
        """Levels and noise in [0, 1), both ``[B, *event]``, to points of their bins, float32.

        Raises:
            ValueError: If there is no noise: a bin is not a point.
        """
        if noise is None:
            raise ValueError("a bin is not a point: expected noise in [0, 1) of the shape of x")
        y = (whole_levels(x, self.num_levels).astype(jnp.float32) + noise) / self.num_levels
        return y if (self.low, self.high) == (0.0, 1.0) else self.low + (self.high - self.low) * y

    def decode(self, y: Array) -> Array:
        """The levels of the bins that points lie in, ``[B, *event]``."""
        if (self.low, self.high) != (0.0, 1.0):
            y = (y - self.low) / (self.high - self.low)
        return as_levels(jnp.floor(y * self.num_levels), self.num_levels)


def as_levels(values: Array, num_levels: int) -> Array:
    """Whole numbers of any type to grey levels: clipped to the range, of a whole type."""
    dtype = jnp.uint8 if num_levels <= 256 else jnp.int32
    return jnp.clip(values, 0, num_levels - 1).astype(dtype)
