"""Missing entries of data given known ones, by a model with latents."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import Batch, Params, label_of
from genjax.families.imputing import known_nats, likely_start, metropolis_within_gibbs
from genjax.families.latent_variable import LatentVariableModel


def filled_in(
    model: LatentVariableModel, params: Params, batch: Batch, key: PRNGKeyArray, num_steps: int
) -> Array:
    """Draws missing entries given the known ones, in turn with the latents.

    The encoder sees filled rows, the first of which are samples that fit the known entries.

    Args:
        model: The model.
        params: Its parameters.
        batch: Rows, with ``known``, True where ``x`` may be read, and the labels that are told.
        key: Random key.
        num_steps: Steps of :func:`~genjax.families.imputing.metropolis_within_gibbs`.

    Returns:
        Filled rows, ``[B, *event]``.
    """
    of_start, of_walk = jax.random.split(key)
    label, known = label_of(batch, conditional=model.conditional), batch["known"]
    shape = (known.shape[0], model.latent_size)

    def rows_of(key: PRNGKeyArray, outputs: Array) -> Array:
        drawn = model.observation.draw(key, outputs, model.entries)
        return jnp.where(known, batch["x"], drawn).astype(batch["x"].dtype)

    def draw(key: PRNGKeyArray, z: Array) -> Array:
        return rows_of(key, model.groups.outputs(params, z, label))

    def candidate(key: PRNGKeyArray) -> tuple[Array, Array]:
        of_latent, of_rows = jax.random.split(key)
        outputs = model.groups.imagine(params, label, jax.random.normal(of_latent, shape))
        rows = rows_of(of_rows, outputs)
        return rows, -known_nats(model.observation, model.entries, rows, outputs, known)

    def propose(key: PRNGKeyArray, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        rows = {**batch, "x": x}
        seen = model.look(params, rows)
        found = model.explain(params, rows, seen, noise=jax.random.normal(key, shape)[None])

        def log_weight(z: Array) -> Array:
            again = model.explain(params, rows, seen, latents=z[None])
            return model.log_weights(rows, again)[0]

        return found.latents[0], log_weight

    start = likely_start(candidate, of_start)
    return metropolis_within_gibbs(propose, draw, start, of_walk, num_steps=num_steps)[0]
