"""Draws of missing entries given known ones, by Markov chains that a model of rows makes.

All have the conditional distribution of the model as their stationary one; how near they come to it
in so many steps depends on the model. Rows are chains of their own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped

from genjax.families.observations import Entries, Observation
from genjax.losses.arrays import per_row


def likely_start(
    draw: Callable[[PRNGKeyArray], tuple[Array, Array]], key: PRNGKeyArray, num_starts: int = 50
) -> Shaped[Array, "B *event"]:
    """Of several candidates for each row one, with probabilities that go with its density.

    Chains do not leave a mode soon, so that where they begin matters.

    Args:
        draw: From a key to filled rows ``[B, *event]``, known entries in their places, and the
            logarithms ``[B]`` of how well each fits them.
        key: Random key.
        num_starts: Candidates for each row, one after the other.

    Returns:
        The rows.
    """

    def better(best: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], None]:
        of_rows, of_choice = jax.random.split(jax.random.fold_in(key, number))
        rows, fit = draw(of_rows)
        # The largest of logarithms with Gumbel noise is a draw by their exponentials.
        fit = jnp.nan_to_num(fit, nan=-jnp.inf) + jax.random.gumbel(of_choice, fit.shape)
        taken = fit > best[1]
        return (jnp.where(per_row(taken, rows), rows, best[0]), jnp.maximum(fit, best[1])), None

    first, _ = draw(jax.random.fold_in(key, num_starts))
    start = (first, jnp.full(first.shape[0], -jnp.inf))
    (rows, _), _ = jax.lax.scan(better, start, jnp.arange(num_starts))
    return rows


def independent_metropolis(
    propose: Callable[[PRNGKeyArray], tuple[Array, Array]], key: PRNGKeyArray, num_steps: int
) -> tuple[Shaped[Array, "B *event"], Float[Array, " B"]]:
    r"""A chain whose proposals do not depend on where it is: exact in the limit of many.

    A proposal is accepted with probability :math:`\min(1, w(x')/w(x))` of its weight, the ratio of
    the target's probability to that of being proposed. If all weights are the same, so that
    proposals are draws of the target, every one is accepted.

    Args:
        propose: From a key to rows ``[B, *event]`` and the logarithms ``[B]`` of their weights.
        key: Random key.
        num_steps: Proposals after the first.

    Returns:
        The rows after the last step, and the share of proposals that each row accepted, ``[B]``.

    References:
        Hastings, Monte Carlo Sampling Methods Using Markov Chains, Biometrika 57, 1970.
    """

    def walk(carry: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], Array]:
        x, weight = carry
        of_rows, of_choice = jax.random.split(jax.random.fold_in(key, number))
        to, to_weight = propose(of_rows)
        chance = jnp.exp(jnp.minimum(0.0, to_weight - weight))
        taken = jax.random.uniform(of_choice, chance.shape) < chance
        x = jnp.where(per_row(taken, x), to, x)
        return (x, jnp.where(taken, to_weight, weight)), taken.astype(jnp.float32)

    start = propose(jax.random.fold_in(key, num_steps))
    (x, _), taken = jax.lax.scan(walk, start, jnp.arange(num_steps))
    return x, jnp.mean(taken, axis=0)


def metropolis_within_gibbs(
    propose: Callable[[PRNGKeyArray, Array], tuple[Array, Callable[[Array], Array]]],
    draw: Callable[[PRNGKeyArray, Array], Array],
    start: Shaped[Array, "B *event"],
    key: PRNGKeyArray,
    *,
    num_steps: int,
) -> tuple[Shaped[Array, "B *event"], Float[Array, " B"]]:
    r"""Draws missing entries and latents of filled rows in turn.

    A step proposes :math:`z' \sim q(z|x)` from the encoder of the filled row, accepts it with
    probability :math:`\min(1, w(z')/w(z))` of the weights :math:`w(z) = p(x, z)/q(z|x)`, and draws
    the missing entries from :math:`p(x_m|z)`. In the first half of the steps every proposal is
    taken (pseudo-Gibbs), which finds its way faster; the second half makes it exact.

    Args:
        propose: From a key and filled rows to latents ``[B, Z]``, and to the function that gives
            the log weights ``[B]`` of latents of these rows.
        draw: From a key and latents to filled rows, whose known entries are the known ones. Given
            the latent, missing entries must not depend on known ones.
        start: Filled rows to begin with, ``[B, *event]``.
        key: Random key.
        num_steps: Steps.

    Returns:
        Filled rows, and the share of the steps of the second half that each row accepted, ``[B]``.

    Raises:
        ValueError: If there are fewer than 2 steps.

    References:
        Mattei and Frellsen, Leveraging the Exact Likelihood of Deep Latent Variable Models,
        arXiv:1802.04826, algorithm 1; pseudo-Gibbs: Rezende et al., arXiv:1401.4082, section 5.4.
    """
    if num_steps < 2:
        raise ValueError(
            f"num_steps must be at least 2, for half of them find a start, got {num_steps}"
        )

    def walk(carry: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], Array]:
        x, z = carry
        of_latent, of_choice, of_row = jax.random.split(jax.random.fold_in(key, number), 3)
        to, log_weight = propose(of_latent, x)
        chance = jnp.exp(jnp.minimum(0.0, log_weight(to) - log_weight(z)))
        chance = jnp.where(number < num_steps // 2, 1.0, chance)
        taken = jax.random.uniform(of_choice, chance.shape) < chance
        z = jnp.where(per_row(taken, z), to, z)
        return (draw(of_row, z), z), jnp.where(number < num_steps // 2, 0.0, chance)

    z, _ = propose(jax.random.fold_in(key, num_steps), start)
    (x, _), chances = jax.lax.scan(walk, (start, z), jnp.arange(num_steps))
    return x, jnp.sum(chances, axis=0) / (num_steps - num_steps // 2)


def known_nats(
    observation: Observation,
    of: Entries,
    x: Shaped[Array, "B *event"],
    outputs: Float[Array, "B *places P"],
    known: Bool[Array, "B *event"],
) -> Float[Array, " B"]:
    """Nats of the places that are known as a whole, given what is said of each place.

    Where all entries together are one place, as those of a table to a decoder, all of them count.

    Args:
        observation: The distribution at a place.
        of: What is observed there.
        x: Filled rows, ``[B, *event]``.
        outputs: Parameters of the places, ``[B, *places, P]``.
        known: True where an entry is known.

    Returns:
        Nats of each row.
    """
    rows, number = x.shape[0], outputs.shape[-1]
    places = x.reshape(-1, of.channels)
    nats = observation.nats(places, outputs.reshape(-1, number), of).reshape(rows, -1)
    whole = jnp.all(known.reshape(rows, -1, of.channels), axis=-1)
    if whole.shape[1] == 1:
        return nats[:, 0]
    return jnp.sum(jnp.where(whole, nats, 0.0), axis=1)
