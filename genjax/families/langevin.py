"""Walks in a density by its slope, of real numbers and of grey levels within their bins."""

import math
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from genjax.losses.arrays import per_row

LogDensity: TypeAlias = Callable[[Array], Array]
"""Rows ``[B, *event]`` to log-densities ``[B]``, which may lack a constant."""

_Walker: TypeAlias = tuple[Array, Array, Array, Array]
"""Rows, their log-densities and slopes, and the logarithms of step sizes."""

_TARGET = 0.574
"""Acceptance that is the most efficient in many dimensions: Roberts and Rosenthal, 1998."""


def langevin(
    log_density: LogDensity,
    start: Float[Array, "B *event"],
    free: Bool[Array, "B *event"],
    key: PRNGKeyArray,
    *,
    num_steps: int,
    step_size: float = 0.1,
) -> tuple[Float[Array, "B *event"], Float[Array, " B"]]:
    r"""Walks rows by the Metropolis-adjusted Langevin algorithm.

    A step proposes :math:`x' = x + \frac{\epsilon^2}{2} \nabla \log p(x) + \epsilon \xi` in the
    free entries and accepts by the Metropolis rule, so that the density itself is stationary
    whatever the step size. In the first half of the steps each row adapts its own, towards 57 %
    accepted; in the second half it is fixed.

    Args:
        log_density: The density that is walked in, as a function of whole rows.
        start: Where the rows begin, ``[B, *event]``. Entries should have scales near each other.
        free: True where an entry moves, ``[B, *event]``; the others stay.
        key: Random key.
        num_steps: Steps, each of one gradient.
        step_size: :math:`\epsilon` at the start, in units of the entries.

    Returns:
        The rows after the last step, and the share of the steps of the second half that each row
        accepted, ``[B]``.

    Raises:
        ValueError: If there are fewer than 2 steps.

    References:
        Roberts and Tweedie, Exponential convergence of Langevin distributions, 1996; adaptation:
        Andrieu and Thoms, A tutorial on adaptive MCMC, 2008, section 4.2.
    """
    if num_steps < 2:
        raise ValueError(f"num_steps must be at least 2, for half of them adapt, got {num_steps}")
    axes = tuple(range(1, start.ndim))

    def evaluated(x: Array) -> tuple[Array, Array]:
        value, pull = jax.vjp(log_density, x)
        (gradient,) = pull(jnp.ones_like(value))
        # Where the density has no slope a step is one of a random walk, which is as exact.
        return value, jnp.where(free & jnp.isfinite(gradient), gradient, 0.0)

    def drift(gradient: Array, step: Array) -> Array:
        # A slope far out must not throw a row further: tamed, which the rule accounts for.
        move = 0.5 * step**2 * gradient
        length = jnp.sqrt(jnp.sum(move**2, axes, keepdims=True) + 1e-30)
        count = jnp.sum(free, axes, keepdims=True)
        return move * jnp.minimum(1.0, 2.0 * step * jnp.sqrt(count) / length)

    def log_proposal(to: Array, x: Array, gradient: Array, step: Array) -> Array:
        away = jnp.where(free, to - x - drift(gradient, step), 0.0) / step
        return -0.5 * jnp.sum(away**2, axes)

    def walk(carry: _Walker, number: Array) -> tuple[_Walker, Array]:
        x, value, gradient, log_step = carry
        of_noise, of_choice = jax.random.split(jax.random.fold_in(key, number))
        step = per_row(jnp.exp(log_step), x)
        noise = jnp.where(free, jax.random.normal(of_noise, x.shape), 0.0)
        to = x + drift(gradient, step) + step * noise
        to_value, to_gradient = evaluated(to)
        log_ratio = to_value - value + log_proposal(x, to, to_gradient, step)
        log_ratio -= log_proposal(to, x, gradient, step)
        # Out of the domain the density is not finite: never accepted.
        chance = jnp.exp(jnp.minimum(0.0, jnp.where(jnp.isfinite(log_ratio), log_ratio, -jnp.inf)))
        # From where it is not finite, anywhere.
        chance = jnp.where(jnp.isfinite(value), chance, jnp.isfinite(to_value) * 1.0)
        taken = jax.random.uniform(of_choice, chance.shape) < chance
        x = jnp.where(per_row(taken, x), to, x)
        value = jnp.where(taken, to_value, value)
        gradient = jnp.where(per_row(taken, x), to_gradient, gradient)
        gain = jnp.where(number < num_steps // 2, (number + 1.0) ** -0.6, 0.0)
        log_step = log_step + gain * (chance - _TARGET)
        return (x, value, gradient, log_step), jnp.where(number < num_steps // 2, 0.0, chance)

    log_step = jnp.full(start.shape[0], math.log(step_size))
    carry = (start, *evaluated(start), log_step)
    (x, *_), chances = jax.lax.scan(walk, carry, jnp.arange(num_steps))
    return x, jnp.sum(chances, axis=0) / (num_steps - num_steps // 2)


def within_bins(
    log_density: LogDensity,
    levels: Float[Array, "B *event"],
    known: Bool[Array, "B *event"],
    num_levels: int,
) -> tuple[LogDensity, Callable[[Array], Array]]:
    r"""The density of grey levels' noise, and of missing levels, on unbounded numbers.

    A density of :math:`y = (k + u)/V` on :math:`[0, 1)` gives levels their probabilities by its
    integrals over bins. Of numbers :math:`v`, an entry that is known is
    :math:`(k + \sigma(v))/V`, one that is not :math:`\sigma(v)`: a walk in :math:`v` under the
    density of :math:`y` and its change of variables is one of missing levels given known ones,
    the noise of these included, and without any bound on the likelihood.

    Args:
        log_density: Density of rows ``y``.
        levels: Whole grey levels as real numbers; read where they are known.
        known: True where they are.
        num_levels: Number of grey levels ``V``.

    Returns:
        The log-density of ``v`` up to a constant, and the map from ``v`` to ``y``.
    """

    def rows_of(v: Array) -> Array:
        u = jax.nn.sigmoid(v)
        return jnp.where(known, (levels + u) / num_levels, u)

    def log_density_of(v: Array) -> Array:
        stretch = jax.nn.log_sigmoid(v) + jax.nn.log_sigmoid(-v)
        return log_density(rows_of(v)) + jnp.sum(stretch, axis=tuple(range(1, v.ndim)))

    return log_density_of, rows_of


def langevin_within_bins(
    log_density: LogDensity,
    levels: Float[Array, "B *event"],
    start: Float[Array, "B *event"],
    known: Bool[Array, "B *event"],
    num_levels: int,
    key: PRNGKeyArray,
    *,
    num_steps: int,
) -> Float[Array, "B *event"]:
    """Walks missing grey levels, and the noise of known ones: see :func:`within_bins`.

    Args:
        log_density: Density of rows on [0, 1), in which a level is a bin of width ``1/num_levels``.
        levels: Whole grey levels as real numbers; read where they are known.
        start: Rows on [0, 1) where the missing entries begin.
        known: True where a level is known.
        num_levels: Number of grey levels.
        key: Random key.
        num_steps: Steps of :func:`langevin`.

    Returns:
        Rows on [0, 1), in the bins of the known levels.
    """
    of_noise, of_walk = jax.random.split(key)
    noise = jnp.where(known, jax.random.uniform(of_noise, levels.shape), start)
    edge = 0.05 / num_levels  # chains do not begin far out
    v = jax.scipy.special.logit(jnp.clip(noise, edge, 1.0 - edge))
    walked, rows_of = within_bins(log_density, levels, known, num_levels)
    v, _ = langevin(walked, v, jnp.ones_like(known), of_walk, num_steps=num_steps)
    return rows_of(v)
