"""What families with a likelihood say in evaluation, and how they show a density of the plane."""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from genjax.families.base import Density, Metrics
from genjax.losses import importance_weighted_nats, nats_to_bits_per_dim

T = TypeVar("T")


def draws_of(one_draw: Callable[[Array], T], num_draws: int) -> T:
    """Nats of each draw of noise, ``[num_draws, B]``.

    Args:
        one_draw: From the number of a draw to nats ``[B]``, or a tree of arrays.
        num_draws: Number of draws.

    Returns:
        The nats, or the tree; one after the other, so that memory is that of one draw.
    """
    if num_draws == 1:
        return jax.tree.map(lambda a: a[None], one_draw(jnp.zeros((), jnp.int32)))
    return jax.lax.map(one_draw, jnp.arange(num_draws))


def likelihood_metrics(draws: Array, num_dims: int, *, bounds: bool = True) -> Metrics:
    """What evaluation says of a likelihood, or of a bound from draws of noise.

    Args:
        draws: Negative log-likelihood in nats for each draw, ``[num_draws, B]``.
        num_dims: Dimensions of an event.
        bounds: Whether each draw is a bound (or exact). An estimate that is unbiased in nats is not
            unbiased in probability, so that several do not make a tighter bound.

    Returns:
        ``nats`` and ``bits_per_dim``, means over the draws; with several draws also
        ``bits_per_dim_importance``.
    """
    single = jnp.mean(draws, axis=0)
    result = {"nats": single, "bits_per_dim": nats_to_bits_per_dim(single, num_dims)}
    if len(draws) > 1 and bounds:
        tighter = importance_weighted_nats(draws)
        result["bits_per_dim_importance"] = nats_to_bits_per_dim(tighter, num_dims)
    return result


def plane_density(points: Array, log_prob: Callable[[Array], Array], size: int = 100) -> Density:
    """A density on a square grid around points of the plane.

    Args:
        points: ``[B, 2]``.
        log_prob: Log-density of points ``[N, 2]``.
        size: Points along a side.

    Returns:
        The density, on a grid that holds all but the farthest half per cent of coordinates.
    """
    reach = 1.2 * jnp.quantile(jnp.abs(points), 0.995)
    axis = reach * jnp.asarray(np.linspace(-1.0, 1.0, size), jnp.float32)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    values = jnp.exp(log_prob(grid.reshape(-1, 2))).reshape(size, size)
    return Density(values=values, extent=reach * jnp.array([-1.0, 1.0, -1.0, 1.0]))


def density_metrics(
    num_dims: int, *in_bits: str, in_nats: tuple[str, ...] = ()
) -> dict[str, float]:
    """How much a nat of an example is in some metrics: see :class:`~genjax.families.base.Family`.

    Args:
        num_dims: Entries of an example.
        *in_bits: Metrics in bits per dimension.
        in_nats: Metrics in nats.
    """
    bits = 1.0 / (num_dims * math.log(2.0))
    return {**{name: bits for name in in_bits}, **{name: 1.0 for name in in_nats}}
