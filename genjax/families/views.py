"""Families that see rows otherwise than the data has them: the one place where that is undone."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Denoising,
    Density,
    Family,
    Generating,
    Metrics,
    PyTree,
    Samples,
    TrainState,
    Variables,
)

Kept = Mapping[str, PyTree]
"""What a view keeps in the state."""


@runtime_checkable
class View(Protocol):
    """How a family sees rows, and what its rows are in the data."""

    @property
    def name(self) -> str:
        """Where in the state's ``model_state`` is kept what the view goes by."""
        ...

    @property
    def protocol(self) -> Mapping[str, str]:
        """What is to be said beside scores."""
        ...

    def kept(self) -> Kept:
        """What the view goes by, so that a state is complete without the data."""
        ...

    def encode(self, kept: Kept, batch: Batch, key: PRNGKeyArray | None) -> Batch:
        """The batch as the family sees it; without a key where only shapes are read."""
        ...

    def encode_rows(self, kept: Kept, x: Array) -> Array:
        """Rows ``[B, *event]`` as the family sees them, without anything drawn."""
        ...

    def decode_rows(self, kept: Kept, x: Array) -> Array:
        """The data that rows of the family stand for."""
        ...

    def decode_density(self, kept: Kept, density: Density) -> Density:
        """A density of the plane in the units of the data."""
        ...

    def log_volume(self, kept: Kept, batch: Batch, seen: Batch) -> Array | float:
        """What the log-density of the data is lower by than that of what is seen of it.

        For a change of units it is the log of the volume that one unit of the family's volume
        stands for.

        Args:
            kept: What the view goes by.
            batch: Rows of the data.
            seen: What :meth:`encode` made of them.

        Returns:
            Nats of each row, ``[B]``, or the same number for all.
        """
        ...

    @property
    def shrinks(self) -> float:
        """Entries of what is seen for each entry of the data."""
        ...

    @property
    def entrywise(self) -> bool:
        """Whether each entry of what is seen is one of the data."""
        ...

    @property
    def differentiable(self) -> bool:
        """Whether ``encode_rows`` takes any real numbers, and has a slope."""
        ...

    @property
    def scores_in_training(self) -> bool:
        """Whether metrics of training are those of the data, too; else they are of what is seen."""
        ...


def viewed(family: Family, view: View) -> Family:
    """A family that sees data through a view, and that is about the data.

    Args:
        family: The family of what the view makes of the data.
        view: The view.

    Returns:
        The family. Densities of data are those of what is seen less the log of the volume, and so
        are its ``density_metrics``; samples, decoded latents and edits are data.
    """

    def inner(state: TrainState) -> TrainState:
        kept = {name: value for name, value in state.model_state.items() if name != view.name}
        return state.replace(model_state=kept)

    def outer(state: TrainState, kept: Kept) -> TrainState:
        return state.replace(model_state={**state.model_state, view.name: kept})

    weights = {
        # Those in nats are of an example; those in bits, of an entry.
        name: weight if weight == 1.0 else weight * view.shrinks
        for name, weight in family.density_metrics.items()
    }

    def in_units_of_data(kept: Kept, batch: Batch, seen: Batch, metrics: Metrics) -> Metrics:
        if not weights:
            return metrics
        added = view.log_volume(kept, batch, seen)
        own = family.density_metrics

        def moved(value: Array, own: float, weight: float) -> Array:
            mean = added if jnp.ndim(value) else jnp.mean(added)
            return value * (weight / own) + mean * weight

        return {
            name: moved(value, own[name], weights[name]) if name in weights else value
            for name, value in metrics.items()
        }

    def init_with(key: PRNGKeyArray, batch: Batch, given: Mapping[str, PyTree]) -> TrainState:
        kept = given.get(view.name, view.kept())
        seen = view.encode(kept, batch, key)
        made = family.init_with(key, seen, given) if family.init_with else family.init(key, seen)
        return outer(made, kept)

    def init(key: PRNGKeyArray, batch: Batch) -> TrainState:
        return init_with(key, batch, {})

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        kept = state.model_state[view.name]
        seen = view.encode(kept, batch, key)
        made, metrics = family.train_step(inner(state), seen, key)
        if view.scores_in_training and family.scores_in_training:
            metrics = in_units_of_data(kept, batch, seen, metrics)
        return outer(made, kept), metrics

    protocol = {**family.eval_protocol, **view.protocol}
    return dataclasses.replace(
        family,
        init=init,
        init_with=init_with,
        train_step=train_step,
        eval_protocol=protocol,
        density_metrics=weights,
        scores_in_training=view.scores_in_training and family.scores_in_training,
        **_scores(family, view, inner, in_units_of_data),
        **_rows(family, view, inner),
    )


def _scores(family: Family, view: View, inner: Any, in_units_of_data: Any) -> dict[str, Any]:
    """What a family says of rows of data."""
    parts: dict[str, Any] = {}
    if family.eval_step is not None:
        score = family.eval_step

        def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
            kept = state.model_state[view.name]
            seen = view.encode(kept, batch, key)
            found = score(inner(state), seen, key)
            return in_units_of_data(kept, batch, seen, found)  # type: ignore[no-any-return]

        parts["eval_step"] = eval_step
    if family.log_prob is not None:
        density = family.log_prob

        def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
            kept = state.model_state[view.name]
            seen = view.encode(kept, batch, key)
            return density(inner(state), seen, key) - view.log_volume(kept, batch, seen)

        parts["log_prob"] = log_prob
    if family.outlier_scores:

        def of_seen(own: Any) -> Any:
            def outlier_score(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
                seen = view.encode(state.model_state[view.name], batch, key)
                return own(inner(state), seen, key)

            return outlier_score

        parts["outlier_scores"] = {n: of_seen(own) for n, own in family.outlier_scores.items()}
    if family.encode is not None:
        to_latents = family.encode

        def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
            seen = view.encode(state.model_state[view.name], batch, key)
            return to_latents(inner(state), seen, key)

        parts["encode"] = encode
    if family.class_logits is not None:
        classes = family.class_logits

        def class_logits(state: TrainState, rows: Array) -> Array:
            return classes(inner(state), view.encode_rows(state.model_state[view.name], rows))

        # Rows there are real numbers, which views of bits or codes do not take.
        parts["class_logits"] = class_logits if view.differentiable else None
    if family.embed is not None:
        to_vectors = family.embed

        def embed(variables: Variables, batch: Batch) -> Mapping[str, Array]:
            kept = dict(variables["model_state"])
            own = kept.pop(view.name)
            if "x" in batch:
                batch = {**batch, "x": view.encode_rows(own, batch["x"])}
            return to_vectors({**variables, "model_state": kept}, batch)

        parts["embed"] = embed
    return parts


def _rows(family: Family, view: View, inner: Any) -> dict[str, Any]:
    """What a family makes, as data."""
    parts: dict[str, Any] = {}
    if family.decode is not None:
        to_rows = family.decode

        def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
            rows = to_rows(inner(state), latents, batch)
            return view.decode_rows(state.model_state[view.name], rows)

        parts["decode"] = decode
    if family.reconstruct is not None:
        back = family.reconstruct

        def reconstruct(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
            kept = state.model_state[view.name]
            rows = back(inner(state), view.encode(kept, batch, key), key)
            return view.decode_rows(kept, rows)

        parts["reconstruct"] = reconstruct
    if family.impute is not None:
        fill = family.impute

        def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
            kept = state.model_state[view.name]
            rows = fill(inner(state), view.encode(kept, batch, key), key, num_steps)
            # To the last digit, and grey levels that were seen as bits, too.
            return jnp.where(batch["known"], batch["x"], view.decode_rows(kept, rows))

        parts["impute"] = impute
    if family.denoising is not None:
        asked = family.denoising

        def denoising(state: TrainState, batch: Batch) -> Denoising:
            kept, own = state.model_state[view.name], asked(inner(state), batch)
            return dataclasses.replace(
                own,
                encode=lambda x: own.encode(view.encode_rows(kept, x)),
                decode=lambda y: view.decode_rows(kept, own.decode(y)),
                entrywise=own.entrywise and view.entrywise,
            )

        parts["denoising"] = denoising
    if family.generating is not None:
        generates = family.generating

        def generating(state: TrainState, batch: Batch) -> Generating:
            kept, own = state.model_state[view.name], generates(inner(state), batch)
            return dataclasses.replace(own, encode=lambda x: own.encode(view.encode_rows(kept, x)))

        parts["generating"] = generating
    if family.sample is not None:
        draw = family.sample

        def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
            kept = state.model_state[view.name]
            drawn = draw(inner(state), key, view.encode(kept, batch, None))
            way, density = drawn.trajectory, drawn.density
            return Samples(
                rows=view.decode_rows(kept, drawn.rows),
                trajectory=None if way is None else view.decode_rows(kept, way),
                density=None if density is None else view.decode_density(kept, density),
            )

        parts["sample"] = sample
    if family.curves is not None:
        curves = family.curves
        parts["curves"] = lambda state: curves(inner(state))
    return parts
