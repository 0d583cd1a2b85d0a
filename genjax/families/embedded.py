"""Families of the embeddings of images, and families that are told them: the halves of unCLIP."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.families.base import (
    Batch,
    Denoising,
    Derived,
    Family,
    Generating,
    Metrics,
    PyTree,
    Samples,
    TrainState,
    Variables,
)
from genjax.families.embedding_forms import EmbeddingForm

MADE_FROM: Mapping[str, str] = {"embedding": "x", "text_embedding": "tokens"}
"""Vectors that networks may be told, and the features of a batch that they are computed from."""
FORM = "form"
"""Where beside the variables of the contrastive model what was measured of its vectors is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embeddings:
    r"""Vectors of images and of texts, by a contrastive model that was trained before.

    Families are told them times the square root of their length, so that their entries are about
    as large as noise: those of a vector of unit length are far too small. A family of those of
    images sees them in a form of its own.

    Attributes:
        embed: The model: see :class:`~genjax.families.base.Family`.
        variables: Shapes and types of what it was trained to be.
        size: Length of a vector.
        replaces: The form in which the family is one of the vectors of images, in place of images;
            None if it is not.
        name: Where in the state the variables are.
    """

    embed: Callable[[Variables, Batch], Mapping[str, Array]]
    variables: Variables
    size: int
    replaces: EmbeddingForm | None = None
    name: str = "embeddings"

    def kept(self) -> PyTree:
        """Zeros in place of what was trained: a run fills it in, and what is measured."""
        found = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), dict(self.variables))
        measured = self.replaces.kept(self.size) if self.replaces is not None else {}
        return {**found, FORM: measured} if measured else found

    @property
    def event_shape(self) -> tuple[int]:
        """Shape of what a family of the vectors of images sees of one."""
        assert self.replaces is not None
        return self.replaces.event_shape(self.size)

    def to_vectors(self, kept: PyTree, x: Array) -> Array:
        """Vectors ``[..., D]`` that what such a family sees stands for."""
        assert self.replaces is not None
        return self.replaces.to_vectors(kept.get(FORM, {}), x)

    def vectors(self, kept: PyTree, batch: Batch, name: str) -> Array:
        """Vectors of unit length of a batch, or of zeros where nothing is told, ``[B, D]``.

        Args:
            kept: The variables.
            batch: Rows, which may have the vectors themselves, of any length.
            name: One of :data:`MADE_FROM`.

        Returns:
            The vectors.
        """
        if name in batch:
            return losses.unit_length(batch[name].astype(jnp.float32))
        source = MADE_FROM[name]
        made = self.embed(kept, {source: batch[source]})[name]
        if source == "tokens":
            # What tells nothing has no vector; without, the text would be one like any other.
            made = jnp.where(jnp.any(batch[source] >= 0, axis=-1, keepdims=True), made, 0.0)
        return jax.lax.stop_gradient(made)

    def seen(
        self, kept: PyTree, batch: Batch, reads: tuple[str, ...], *, drawing: bool = False
    ) -> Batch:
        """A batch as the family sees it.

        Args:
            kept: The variables.
            batch: Rows of the data.
            reads: What the family is told.
            drawing: Whether only the shape of ``x`` is read.

        Returns:
            The batch with the vectors that are read, and with those of images as its ``x`` where
            the family is one of them.
        """
        scale, form = self.size**0.5, self.replaces
        made = dict(batch)
        for name in MADE_FROM:
            if name in reads:
                made[name] = scale * self.vectors(kept, batch, name)
        if form is not None and drawing:
            dtype = jnp.float32 if form.num_levels is None else jnp.int32
            made["x"] = jnp.zeros((batch["x"].shape[0], *self.event_shape), dtype)
        elif form is not None:
            vectors = self.vectors(kept, {"x": batch["x"]}, "embedding")
            made["x"] = form.of_vectors(kept.get(FORM, {}), vectors)
        return made


def with_embeddings(family: Family, embeddings: Embeddings) -> Family:
    """A family of images that is told their embeddings, or one of embeddings, as one of the data.

    What the contrastive model was trained to be is part of the state, so that a state is complete
    without it.

    Args:
        family: The family, which is told ``embedding``, ``text_embedding``, both or neither.
        embeddings: The contrastive model.

    Returns:
        The family of the data. It reads the images and the texts that vectors are computed from,
        or takes the vectors in place of them (``derived``). Samples of a family of embeddings are
        vectors of unit length, and its scores are of those, not of data.

    Raises:
        ValueError: If the family takes several batches a step.

    References:
        Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents,
        arXiv:2204.06125, sections 2.1 and 2.2.
    """
    if family.batches_per_step != 1:
        raise ValueError(
            "a family that is told embeddings takes one batch a step, but this one takes "
            f"{family.batches_per_step} (family.critic_steps of a GAN, say)"
        )
    name, reads = embeddings.name, family.reads

    def inner(state: TrainState) -> TrainState:
        kept = {key: value for key, value in state.model_state.items() if key != name}
        return state.replace(model_state=kept)

    def outer(state: TrainState, kept: PyTree) -> TrainState:
        return state.replace(model_state={**state.model_state, name: kept})

    def seen(state: TrainState, batch: Batch, *, drawing: bool = False) -> Batch:
        return embeddings.seen(state.model_state[name], batch, reads, drawing=drawing)

    def init_with(key: PRNGKeyArray, batch: Batch, given: Mapping[str, PyTree]) -> TrainState:
        kept = given.get(name, embeddings.kept())
        rows = embeddings.seen(kept, batch, reads)
        made = family.init_with(key, rows, given) if family.init_with else family.init(key, rows)
        return outer(made, kept)

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        made, metrics = family.train_step(inner(state), seen(state, batch), key)
        return outer(made, state.model_state[name]), metrics

    def embed(variables: Variables, batch: Batch) -> Mapping[str, Array]:
        return embeddings.embed(variables["model_state"][name], batch)

    def in_data(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(MADE_FROM.get(feature, feature) for feature in names))

    of = "data given embeddings"
    if embeddings.replaces is not None:
        of = embeddings.replaces.called
    return dataclasses.replace(
        family,
        init=lambda key, batch: init_with(key, batch, {}),
        init_with=init_with,
        train_step=train_step,
        embed=embed,
        reads=in_data(reads),
        # An image is always there; without its vector there is the vector of zeros.
        unlabelled=tuple(feature for feature in in_data(family.unlabelled) if feature != "x"),
        derived={
            feature: Derived((embeddings.size,), source)
            for feature, source in MADE_FROM.items()
            if feature in reads
        },
        eval_protocol={**family.eval_protocol, "scored": of},
        **_of_rows(family, inner, seen),
        **_made(family, inner, seen, embeddings),
    )


def _of_rows(family: Family, inner: Any, seen: Any) -> dict[str, Any]:
    """What a family says of rows of data."""
    parts: dict[str, Any] = {}
    for name in ("eval_step", "log_prob", "encode"):
        own = getattr(family, name)
        if own is not None:

            def asked(state: TrainState, batch: Batch, key: PRNGKeyArray, own: Any = own) -> PyTree:
                return own(inner(state), seen(state, batch), key)

            parts[name] = asked
    if family.outlier_scores:

        def of_seen(own: Any) -> Any:
            return lambda state, batch, key: own(inner(state), seen(state, batch), key)

        parts["outlier_scores"] = {n: of_seen(own) for n, own in family.outlier_scores.items()}
    if family.curves is not None:
        curves = family.curves
        parts["curves"] = lambda state: curves(inner(state))
    return parts


def _made(family: Family, inner: Any, seen: Any, embeddings: Embeddings) -> dict[str, Any]:
    """What a family makes."""
    parts: dict[str, Any] = {}
    replaces = embeddings.replaces is not None

    def vectors(state: TrainState, x: Array) -> Array:
        return embeddings.to_vectors(state.model_state[embeddings.name], x)

    if family.sample is not None:
        draw = family.sample

        def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
            drawn = draw(inner(state), key, seen(state, batch, drawing=True))
            if not replaces:
                return drawn
            way = drawn.trajectory
            return Samples(
                rows=losses.unit_length(vectors(state, drawn.rows)),
                trajectory=None if way is None else vectors(state, way),
            )

        parts["sample"] = sample
    if family.decode is not None:
        to_rows = family.decode

        def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
            rows = to_rows(inner(state), latents, seen(state, batch, drawing=True))
            return losses.unit_length(vectors(state, rows)) if replaces else rows

        parts["decode"] = decode
    if replaces:
        # Edits and what fills in are about images, of which this model makes none.
        nothing = (
            "impute",
            "reconstruct",
            "denoising",
            "generating",
            "class_logits",
            "first_stage",
        )
        return {**parts, **dict.fromkeys(nothing)}
    if family.impute is not None:
        fill = family.impute

        def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
            return fill(inner(state), seen(state, batch), key, num_steps)

        parts["impute"] = impute
    if family.denoising is not None:
        asked = family.denoising

        def denoising(state: TrainState, batch: Batch) -> Denoising:
            return asked(inner(state), seen(state, batch, drawing=True))

        parts["denoising"] = denoising
    if family.generating is not None:
        generates = family.generating

        def generating(state: TrainState, batch: Batch) -> Generating:
            return generates(inner(state), seen(state, batch))

        parts["generating"] = generating
    if family.class_logits is not None:
        classes = family.class_logits
        parts["class_logits"] = lambda state, rows: classes(inner(state), rows)
    return parts
