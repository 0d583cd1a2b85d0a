"""Missing entries of data given known ones, by an autoregressive model."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.autoregressive_model import AutoregressiveModel
from genjax.families.base import Batch, Params
from genjax.families.choosing import Choosing
from genjax.families.imputing import independent_metropolis, known_nats
from genjax.families.told import told_of


def filled_in(
    model: AutoregressiveModel, params: Params, batch: Batch, key: PRNGKeyArray, num_steps: int
) -> Array:
    """Draws missing entries given the known ones.

    Proposals are drawn entry by entry with the known ones in their places, and accepted by how
    probable the known ones are after what was drawn before them. Where the known entries come
    before all missing ones, the first proposal is exact.

    Args:
        model: The model.
        params: Its parameters.
        batch: Rows, with ``known``, True where ``x`` may be read, and what is told.
        key: Random key.
        num_steps: Proposals, of :func:`~genjax.families.imputing.independent_metropolis`.

    Returns:
        Filled rows, ``[B, *event]``.
    """
    told, known = told_of(batch, model.reads), batch["known"]
    plain = dataclasses.replace(model, choosing=Choosing())

    def given(x: Array) -> Array:
        return jnp.where(known, batch["x"], x).astype(x.dtype)

    def propose(key: PRNGKeyArray) -> tuple[Array, Array]:
        x, _ = plain.sample_by_iteration(params, key, told, known.shape[0], given)
        outputs = model.outputs(params, x, told)
        return x, -known_nats(model.observation, model.entries, x, outputs, known)

    return independent_metropolis(propose, key, num_steps)[0].astype(batch["x"].dtype)
