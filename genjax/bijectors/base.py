"""What every bijector offers."""

from typing import Any, TypeAlias

import flax.linen as nn
from jaxtyping import Array, Float

Context: TypeAlias = Float[Array, "B *place K"]
"""What a map is conditional on: one vector an example, ``[B, K]``, or one a pixel."""

Latents: TypeAlias = Float[Array, "B *latent"] | tuple[Float[Array, "B ..."], ...]
"""What data are mapped to: an array, or one for each scale."""

Mapped: TypeAlias = tuple[Any, Float[Array, " B"]]
"""What was mapped (an array, or a tuple of them: latents of several scales) and a log-det."""

Kept: TypeAlias = tuple[Float[Array, "B *event"], Float[Array, " B"]]
"""What was mapped, of the shape that it had, and a log-det."""


class Bijector(nn.Module):
    """An invertible map of batched arrays, as a Linen module.

    Which direction makes data out of noise is not a bijector's matter but that of what holds it
    (:class:`~genjax.bijectors.flow.Flow`). Log-determinants are those of the direction called,
    summed over the event, ``[B]``, float32 or wider. Parameters are made by a call in either
    direction.
    """

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Mapped:
        """Maps ``x`` to ``y``.

        Args:
            x: The rows to map, ``[B, *event]``.
            context: What the map is conditional on, ``[B, C]`` (or, for images, one vector a pixel,
                ``[B, H, W, C]``); ignored by maps that are not.

        Returns:
            ``y`` ``[B, *event']`` and the log of the absolute determinant of dy/dx, ``[B]``.
        """
        raise NotImplementedError

    def inverse_and_log_det(
        self, y: Float[Array, "B *mapped"], context: Context | None = None
    ) -> Mapped:
        """Maps ``y`` back to ``x``.

        Args:
            y: The rows to map back, ``[B, *event']``.
            context: What the map was conditional on forwards, of the same shape; or None.

        Returns:
            ``x`` ``[B, *event]`` and the log of the absolute determinant of dx/dy, ``[B]``.
        """
        raise NotImplementedError

    def __call__(self, x: Float[Array, "B *event"], context: Context | None = None) -> Mapped:
        """Maps as :meth:`forward_and_log_det`, so that ``init`` needs no method."""
        return self.forward_and_log_det(x, context)
