"""Where expectation maximisation starts: clusters of the first batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.families.linear_algebra import matmul

NUM_ROUNDS = 10
"""Rounds of k-means after its centres were chosen."""


def clusters(
    key: PRNGKeyArray, x: Float[Array, "N D"], weights: Float[Array, " N"], count: int
) -> Float[Array, "N K"]:
    """Clusters of rows by k-means, whose first centres are chosen far from each other (k-means++).

    Distances are in the units of the rows as they are given: columns of other scales are to be
    standardised before.

    Args:
        key: Random key.
        x: Rows, ``[N, D]``.
        weights: Weight of each row, not negative; all rows count alike where all are 0.
        count: Number of clusters.

    Returns:
        The weight of each row in its cluster, 0 in all others, ``[N, count]``.

    References:
        Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, 2007.
    """
    weights = jnp.where(jnp.any(weights > 0.0), weights, 1.0)
    if count == 1:
        return weights[:, None]

    def choose(key: PRNGKeyArray, distance: Array) -> Array:
        # Where all rows are centres already, any will do.
        share = jnp.where(jnp.any(weights * distance > 0.0), weights * distance, weights)
        return x[jax.random.categorical(key, jnp.log(share))]

    def add(i: Array, made: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, distance = made
        centre = choose(jax.random.fold_in(key, i), distance)
        distance = jnp.minimum(distance, jnp.sum((x - centre) ** 2, axis=1))
        return centres.at[i].set(centre), distance

    def nearest(centres: Array) -> Array:
        distance = jax.lax.map(lambda centre: jnp.sum((x - centre) ** 2, axis=1), centres)
        return weights[:, None] * jax.nn.one_hot(jnp.argmin(distance, axis=0), count)

    def move(_: Array, centres: Array) -> Array:
        mine = nearest(centres)
        size = jnp.sum(mine, axis=0)[:, None]
        return jnp.where(size > 0.0, matmul(mine.T, x) / jnp.maximum(size, 1e-30), centres)

    nothing = jnp.zeros((count, x.shape[1])), jnp.ones(x.shape[0])
    first = choose(jax.random.fold_in(key, 0), nothing[1])
    begun = nothing[0].at[0].set(first), jnp.sum((x - first) ** 2, axis=1)
    centres, _ = jax.lax.fori_loop(1, count, add, begun)
    return nearest(jax.lax.fori_loop(0, NUM_ROUNDS, move, centres))
