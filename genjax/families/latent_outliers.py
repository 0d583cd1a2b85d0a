"""Scores of outliers that models with latents have: what rows need their latents for."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import Batch, Params, PyTree, TrainState
from genjax.families.draws import fold_each, keys_by_example
from genjax.families.latent_groups import Explanation
from genjax.families.latent_variable import LatentVariableModel, log_entries
from genjax.families.likelihood import draws_of

NUM_DRAWS = 16
"""Draws of latents that bounds are means of."""
REGRET_STEPS = 100
REGRET_RATE = 0.1
REGRET_DRAWS = 4
"""Steps and learning rate of Adam that :func:`likelihood_regret` takes, and draws of a step."""

Score = Callable[[TrainState, Batch, PRNGKeyArray], Array]


def outlier_scores_of(model: LatentVariableModel) -> Mapping[str, Score]:
    """The scores of a model, by name.

    Args:
        model: The model.

    Returns:
        ``likelihood_regret``, and of a model of ``G`` groups ``hierarchy_ratio_1`` to
        ``hierarchy_ratio_{G-1}``, by how many of the finest groups are drawn from the prior.
    """
    found: dict[str, Score] = {
        "likelihood_regret": lambda s, batch, key: likelihood_regret(model, s.ema, batch, key)
    }
    for number in range(1, len(model.groups.sizes)):

        def ratio(
            state: TrainState, batch: Batch, key: PRNGKeyArray, number: int = number
        ) -> Array:
            return hierarchy_ratio(model, state.ema, batch, key, number)

        found[f"hierarchy_ratio_{number}"] = ratio
    return found


def _noise(model: LatentVariableModel, keys: Array, count: int) -> Array:
    """Noise of latents for each row and draw, ``[count, B, Z]``, by the rows' own keys."""
    size = model.latent_size
    drawn = jax.vmap(lambda k: jax.random.normal(k, (count, size)))(keys)
    return jnp.moveaxis(drawn, 1, 0)


def hierarchy_ratio(
    model: LatentVariableModel,
    params: Params,
    batch: Batch,
    key: PRNGKeyArray,
    num_from_prior: int,
    num_draws: int = NUM_DRAWS,
) -> Array:
    r"""How much of a row's bound its finest latents are worth.

    Fine latents describe any image well, familiar or not; what an image is, is in the coarse ones.
    An outlier is explained by its fine latents alone, so that its bound falls when these are drawn
    from the prior given the others:
    :math:`L - E_{p(z_{\leq k}|z_{>k})q(z_{>k}|x)} \log\frac{p(x|z)p(z_{>k})}{q(z_{>k}|x)}`. Layers
    that are inferred from the data up have :math:`q(z_{>k}|z_{\leq k})` in the place of
    :math:`q(z_{>k}|x)`, at the draw of :math:`z_{\leq k}` that the upper ones were inferred from:
    a bound that is lower by what these know of each other given the row.

    Args:
        model: The model, of several groups of latents.
        params: Its parameters.
        batch: Rows, with ``index``.
        key: Key of the draws.
        num_from_prior: The ``k`` finest groups, which are drawn from the prior.
        num_draws: Draws of the latents, of which the mean is taken.

    Returns:
        Nats, ``[B]``: higher for outliers.

    References:
        Havtorn et al., Hierarchical VAEs Know What They Don't Know, arXiv:2102.08248, equations 5
        to 7.
    """
    keys, sizes = keys_by_example(key, batch["index"]), model.groups.sizes
    seen = model.look(params, batch)
    # From the coarsest on: a group's prior depends on those before it.
    order = model.groups.generated
    fine = order[len(order) - num_from_prior :]
    group_of = np.repeat(np.arange(len(sizes)), sizes)  # of each entry

    def explained(latents: Array) -> Explanation:
        return model.explain(params, batch, seen, latents=latents)

    def one_draw(number: Array) -> Array:
        noise = _noise(model, fold_each(keys, number), 2)
        first = model.explain(params, batch, seen, noise=noise[:1])
        z = first.latents
        for group in fine:
            mean, log_std = explained(z).prior
            z = jnp.where(group_of == group, mean + jnp.exp(log_std) * noise[1:], z)
        # With the Gaussians of the first pass: an encoder that goes up infers the groups that stay
        # from those that are drawn anew.
        log_ratio = log_entries(first.latents, *first.prior) - log_entries(
            first.latents, *first.posterior
        )
        kept = jnp.sum(jnp.where(np.isin(group_of, fine), 0.0, log_ratio), axis=-1)
        above = kept - model.data_nats(batch, explained(z))
        return (model.log_weights(batch, first) - above)[0]

    return jnp.mean(draws_of(one_draw, num_draws), axis=0)


def likelihood_regret(
    model: LatentVariableModel,
    params: Params,
    batch: Batch,
    key: PRNGKeyArray,
    *,
    num_steps: int = REGRET_STEPS,
    learning_rate: float = REGRET_RATE,
    num_draws: int = NUM_DRAWS,
) -> Array:
    r"""How much better latents explain a row that are fitted to it alone.

    An encoder finds good latents for rows like those it was trained on. What is fitted is how far
    from the encoder's means and how much wider the posterior is, in units of the encoder's standard
    deviations, of each entry of all groups, by Adam on the evidence lower bound; the model stays.

    Args:
        model: The model.
        params: Its parameters.
        batch: Rows, with ``index``.
        key: Key of the draws.
        num_steps: Steps of Adam.
        learning_rate: Their learning rate, which falls to 0.
        num_draws: Draws of the latents for both bounds, the same for both.

    Returns:
        Nats by which the bound has risen, ``[B]``: higher for outliers.

    References:
        Xiao et al., Likelihood Regret, arXiv:2003.02977, section 4, where the posterior of one row
        rather than the whole encoder is fitted.
    """
    keys = keys_by_example(key, batch["index"])
    seen = model.look(params, batch)
    start = 2 * (jnp.zeros((batch["x"].shape[0], model.latent_size)),)

    def bound(offsets: PyTree, noise: Array) -> Array:
        shift, log_width = offsets
        # Latents are made of the encoder's Gaussians, which depend on the groups before.
        found = model.explain(params, batch, seen, noise=shift + jnp.exp(log_width) * noise)
        mean, log_std = found.posterior
        own = mean + jnp.exp(log_std) * shift, log_std + log_width
        return jnp.mean(model.log_weights(batch, found._replace(posterior=own)), axis=0)

    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

    def step(carry: tuple[PyTree, Any], number: Array) -> tuple[tuple[PyTree, Any], None]:
        offsets, moments = carry
        noise = _noise(model, fold_each(keys, number), REGRET_DRAWS)
        # Rows do not hear of each other: the slope of the sum is that of each.
        slope = jax.grad(lambda o: -jnp.sum(bound(o, noise)))(offsets)
        moved, moments = adam.update(slope, moments)
        return (optax.apply_updates(offsets, moved), moments), None

    (fitted, _), _ = jax.lax.scan(step, (start, adam.init(start)), jnp.arange(1, num_steps + 1))

    def gain(number: Array) -> Array:
        noise = _noise(model, fold_each(keys, num_steps + 1 + number), 1)
        return bound(fitted, noise) - bound(start, noise)

    return jnp.mean(draws_of(gain, num_draws), axis=0)
