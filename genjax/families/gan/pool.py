"""Pools of rows that were generated before, which critics see beside new ones."""

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import mapped_axes

Pool: TypeAlias = Mapping[str, Array]
"""``rows`` ``[N, *event]``; ``count``, int32 ``[]``, of rows it was offered so far; ``seed`` of its
draws, uint32 ``[]``. It is the same on all devices."""


def empty_pool(key: PRNGKeyArray, size: int, shape: tuple[int, ...]) -> Pool:
    """A pool without rows.

    Args:
        key: Key of its seed.
        size: Number of rows that it keeps; 0 for one that gives back what it is offered.
        shape: Shape of a row.

    Returns:
        The pool.
    """
    return {
        "rows": jnp.zeros((size, *shape)),
        "count": jnp.zeros((), jnp.int32),
        "seed": jax.random.bits(key, (), jnp.uint32),
    }


def exchanged(pool: Pool, rows: Array) -> tuple[Pool, Array]:
    """Offers rows to a pool, one after the other, and takes as many.

    While there is room, a row is put into the pool and given back. Later each row is given back
    with probability 1/2; otherwise it takes the place of a random row of the pool, which is given
    in its stead.

    The draws are a function of the pool alone, so that they are the same on all devices, and after
    a run was resumed. Inside a mapped function the rows of all devices go through the pool, and
    each device takes what stands in for its own.

    Args:
        pool: The pool.
        rows: New rows, ``[B, *event]``.

    Returns:
        The pool after that, and the rows to look at, ``[B, *event]``.

    References:
        Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial
        Training, arXiv:1612.07828, section 2.3, and Zhu et al., arXiv:1703.10593, section 4, with
        the draws of the authors' code.
    """
    size = pool["rows"].shape[0]
    if not size:
        return pool, rows
    axes, own = mapped_axes(), rows.shape[0]
    rows = jax.lax.stop_gradient(rows)
    if axes:
        rows = jax.lax.all_gather(rows, axes, tiled=True)
    key_swap, key_place = jax.random.split(
        jax.random.fold_in(jax.random.key(pool["seed"]), pool["count"])
    )
    number = pool["count"] + jnp.arange(rows.shape[0])
    swapped = jax.random.bernoulli(key_swap, 0.5, number.shape)
    place = jax.random.randint(key_place, number.shape, 0, size)

    def offer(kept: Array, one: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        row, number, swapped, place = one
        has_room = number < size
        place = jnp.where(has_room, number, place)
        before = kept[place]
        given = jnp.where(has_room | ~swapped, row, before)
        return kept.at[place].set(jnp.where(has_room | swapped, row, before)), given

    kept, given = jax.lax.scan(offer, pool["rows"], (rows, number, swapped, place))
    if axes:
        given = jax.lax.dynamic_slice_in_dim(given, jax.lax.axis_index(axes) * own, own)
    return {**pool, "rows": kept, "count": pool["count"] + rows.shape[0]}, given
