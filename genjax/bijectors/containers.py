"""Bijectors made of bijectors."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from genjax.bijectors.base import Bijector, Mapped


class Chain(Bijector):
    """Bijectors one after the other, the first of the sequence first.

    Attributes:
        bijectors: What is chained.
    """

    bijectors: Sequence[Bijector]

    def forward_and_log_det(self, x: Array, context: Array | None = None) -> Mapped:
        """Applies all in order."""
        total = jnp.zeros(())
        for bijector in self.bijectors:
            x, log_det = bijector.forward_and_log_det(x, context)
            total = total + log_det
        return x, total

    def inverse_and_log_det(self, y: Array, context: Array | None = None) -> Mapped:
        """Undoes all, the last first."""
        total = jnp.zeros(())
        for bijector in reversed(self.bijectors):
            y, log_det = bijector.inverse_and_log_det(y, context)
            total = total + log_det
        return y, total


class Invert(Bijector):
    """A bijector the other way round.

    Attributes:
        bijector: What is inverted.
    """

    bijector: Bijector

    def forward_and_log_det(self, x: Array, context: Array | None = None) -> Mapped:
        """The inverse of the bijector."""
        return self.bijector.inverse_and_log_det(x, context)

    def inverse_and_log_det(self, y: Array, context: Array | None = None) -> Mapped:
        """The bijector."""
        return self.bijector.forward_and_log_det(y, context)
