"""Families that see data less its mean and divided by its standard deviation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Denoising,
    Density,
    Family,
    Metrics,
    PyTree,
    Samples,
    TrainState,
)

_KEPT = "standardization"
"""Where the moments are in the state's ``model_state``."""


def standardized(
    family: Family, mean: ArrayLike, std: ArrayLike, *, names: tuple[str, ...] = ("x",)
) -> Family:
    r"""A family whose networks see :math:`(x - \mu) / \sigma`, and that is about ``x``.

    The moments are part of the state, so that a state is complete without the data. Densities of
    :math:`x` are those of what the networks see divided by :math:`\prod \sigma`: the change of
    variables is affine and its Jacobian exact, so scores and log-probabilities are in the units of
    the data.

    Args:
        family: The family, of real-valued data.
        mean: Mean :math:`\mu`, of the shape of an example or one that broadcasts to it.
        std: Standard deviation :math:`\sigma > 0`, alike.
        names: Features of a batch that are standardised; samples are in the units of the first.

    Returns:
        The family.
    """
    moments = {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)}

    def inner(state: TrainState) -> TrainState:
        kept = {name: value for name, value in state.model_state.items() if name != _KEPT}
        return state.replace(model_state=kept)

    def outer(state: TrainState, kept: Mapping[str, Array]) -> TrainState:
        return state.replace(model_state={**state.model_state, _KEPT: kept})

    def encode(kept: Mapping[str, Array], batch: Batch) -> Batch:
        found = {n: (batch[n] - kept["mean"]) / kept["std"] for n in names if n in batch}
        return {**batch, **found}

    def log_volume(kept: Mapping[str, Array], batch: Batch) -> Array:
        """Sum of the logarithms of the standard deviations of an example's entries."""
        event = batch[names[0]].shape[batch[names[0]].ndim - moments["mean"].ndim :]
        return jnp.sum(jnp.broadcast_to(jnp.log(kept["std"]), event))

    def in_units_of_data(kept: Mapping[str, Array], batch: Batch, metrics: Metrics) -> Metrics:
        added = log_volume(kept, batch)
        return {
            name: value + added * family.density_metrics[name]
            if name in family.density_metrics
            else value
            for name, value in metrics.items()
        }

    def init(key: PRNGKeyArray, batch: Batch) -> TrainState:
        return outer(family.init(key, encode(moments, batch)), moments)

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        kept = state.model_state[_KEPT]
        made, metrics = family.train_step(inner(state), encode(kept, batch), key)
        return outer(made, kept), in_units_of_data(kept, batch, metrics)

    parts: dict[str, Any] = {}
    if family.eval_step is not None:
        score = family.eval_step

        def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
            kept = state.model_state[_KEPT]
            return in_units_of_data(kept, batch, score(inner(state), encode(kept, batch), key))

        parts["eval_step"] = eval_step
    if family.log_prob is not None:
        density = family.log_prob

        def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
            kept = state.model_state[_KEPT]
            return density(inner(state), encode(kept, batch), key) - log_volume(kept, batch)

        parts["log_prob"] = log_prob
    if family.encode is not None:
        to_latents = family.encode

        def to_standard_latents(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
            return to_latents(inner(state), encode(state.model_state[_KEPT], batch), key)

        parts["encode"] = to_standard_latents
    if family.decode is not None:
        to_rows = family.decode

        def to_rows_of_data(state: TrainState, latents: PyTree, batch: Batch) -> Array:
            kept = state.model_state[_KEPT]
            return to_rows(inner(state), latents, batch) * kept["std"] + kept["mean"]

        parts["decode"] = to_rows_of_data
    if family.denoising is not None:
        asked = family.denoising

        def denoising(state: TrainState, batch: Batch) -> Denoising:
            kept, own = state.model_state[_KEPT], asked(inner(state), batch)
            return dataclasses.replace(
                own,
                encode=lambda x: own.encode((x - kept["mean"]) / kept["std"]),
                decode=lambda y: own.decode(y) * kept["std"] + kept["mean"],
            )

        parts["denoising"] = denoising
    if family.sample is not None:
        draw = family.sample

        def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
            kept = state.model_state[_KEPT]
            return _decoded(draw(inner(state), key, encode(kept, batch)), **kept)

        parts["sample"] = sample
    if family.curves is not None:
        curves = family.curves
        parts["curves"] = lambda state: curves(inner(state))
    protocol = {**family.eval_protocol, "data": "standardized"}
    return dataclasses.replace(
        family, init=init, train_step=train_step, eval_protocol=protocol, **parts
    )


def _decoded(drawn: Samples, mean: Array, std: Array) -> Samples:
    """Samples in the units of the data."""
    made: Samples = jax.tree.map(lambda x: x * std + mean, drawn.replace(density=None))
    if drawn.density is None:
        return made
    # The density is one of points of the plane.
    low_x, high_x, low_y, high_y = drawn.density.extent
    centre = jnp.stack([mean[0], mean[0], mean[1], mean[1]])
    width = jnp.stack([std[0], std[0], std[1], std[1]])
    extent = jnp.stack([low_x, high_x, low_y, high_y]) * width + centre
    return made.replace(density=Density(values=drawn.density.values / jnp.prod(std), extent=extent))
