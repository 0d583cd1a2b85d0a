"""What discrete latents choose between: exponential families, fitted from sums over rows.

A component says which sums of weighted rows its parameters are a function of. Hidden components and
states are then found by expectation maximisation, and those of known labels in one pass.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from genjax.families.observations import Entries

Parameters: TypeAlias = Mapping[str, Array]
"""Parameters of ``K`` components, by name."""
Sums: TypeAlias = Mapping[str, Array]
"""Sums over rows, so that those of several batches or devices add up."""
Rows: TypeAlias = Float[Array, "N D"]
"""Rows of float32 numbers; of grey levels, the whole numbers they are."""

Known: TypeAlias = Bool[Array, "N D"]
"""True where an entry of a row is known."""

TINY = 10.0 * float(jnp.finfo(jnp.float32).eps)
"""Rows that are added to those of each component, so that one without any is no division by 0."""


@runtime_checkable
class Component(Protocol):
    """A distribution of rows ``[N, D]``, ``K`` of which a discrete latent chooses between."""

    def check(self, num_levels: int | None) -> None:
        """Refuses data that it is no distribution of; ``num_levels`` is None for real numbers."""
        ...

    def said(self, num_levels: int | None) -> str:
        """What protocols say of its scores: ``"exact"``, or which bound they are."""
        ...

    def start(self, x: Rows, count: int, of: Entries) -> Parameters:
        """Parameters of so many components, which are alike: what first sums are taken about."""
        ...

    def sums(
        self, parameters: Parameters, x: Rows, weights: Float[Array, "N K"], of: Entries
    ) -> Sums:
        """Sums over rows, each weighted by its share in each component."""
        ...

    def estimate(
        self, parameters: Parameters, weight: Float[Array, " K"], sums: Sums, of: Entries
    ) -> Parameters:
        """The parameters that are most likely given sums, taken about ``parameters``.

        ``weight`` is the number of rows of each component.
        """
        ...

    def log_prob(self, parameters: Parameters, x: Rows, of: Entries) -> Float[Array, "N K"]:
        """Log-probability (or log-density) of each row under each component."""
        ...

    def draw(
        self, key: PRNGKeyArray, parameters: Parameters, chosen: Int[Array, " N"], of: Entries
    ) -> Rows:
        """A row of each chosen component."""
        ...

    def log_prob_known(
        self, parameters: Parameters, x: Rows, known: Known, of: Entries
    ) -> Float[Array, "N K"]:
        """Log-probability of what is known of each row; the rest of ``x`` is not read."""
        ...

    def fill(
        self,
        key: PRNGKeyArray,
        parameters: Parameters,
        chosen: Int[Array, " N"],
        x: Rows,
        known: Known,
        of: Entries,
    ) -> Rows:
        """Rows whose other entries are drawn given the known ones and the chosen component."""
        ...


def log_shares(weight: Array, axis: Any = None) -> Array:
    """Logarithm of numbers of rows as shares of all along some axes; none is 0.

    Args:
        weight: Numbers of rows, not negative.
        axis: Axes that shares add up to 1 along; all if None.

    Returns:
        Of the same shape, finite.
    """
    count = jnp.maximum(weight, 0.0) + TINY
    return jnp.log(count) - jnp.log(jnp.sum(count, axis=axis, keepdims=True))
