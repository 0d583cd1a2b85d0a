"""Families of the latents of a trained model, and through it of the data."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import Batch, Density, Family, FirstStage, Metrics, TrainState, Variables
from genjax.families.views import Kept, viewed

Scale: TypeAlias = Literal["one", "channel"]
"""One standard deviation for all entries of latents, or one for each channel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latents:
    """Latents in place of data: see :func:`of_latents`.

    Attributes:
        first: The trained model.
        variables: Shapes and types of what it was trained to be.
        shrinks: Latents for each entry of the data.
        scale: Which standard deviation latents are divided by; None for none.
        name: Where in the state the variables are.
        said: What protocols say of the data.
    """

    first: FirstStage
    variables: Variables
    shrinks: float
    scale: Scale | None = None
    name: str = "first_stage"
    entrywise = False
    differentiable = False
    scores_in_training = False

    @property
    def protocol(self) -> dict[str, str]:
        """What protocols say of densities."""
        said = {}
        if self.first.nats is not None:
            said["density"] = "lower bound: latents, and data given them by a first stage"
        if self.scale is not None:
            said["latents"] = "divided by their standard deviation in training rows"
        return said

    def kept(self) -> Kept:
        """Zeros: a run fills in what was trained, and the scale in place of 1."""
        found = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), dict(self.variables))
        if self.scale is None:
            return found
        channels = self.first.event_shape[-1:] if self.scale == "channel" else ()
        return {**found, "scale": jnp.ones(channels)}

    def scaled(self, kept: Kept, latents: Array) -> Array:
        """Latents as the family sees them."""
        return latents if self.scale is None else latents / kept["scale"]

    def unscaled(self, kept: Kept, latents: Array) -> Array:
        """Latents as the first stage has them."""
        return latents if self.scale is None else latents * kept["scale"]

    def encode(self, kept: Kept, batch: Batch, key: PRNGKeyArray | None) -> Batch:
        """The batch, its ``x`` in latents."""
        if key is None:
            dtype = jnp.int32 if self.first.num_levels else jnp.float32
            return {**batch, "x": jnp.zeros((batch["x"].shape[0], *self.first.event_shape), dtype)}
        found = self.first.encode(kept, batch, jax.random.fold_in(key, 0x1A))
        return {**batch, "x": jax.lax.stop_gradient(self.scaled(kept, found))}

    def encode_rows(self, kept: Kept, x: Array) -> Array:
        """Latents of rows."""
        return self.scaled(kept, self.first.encode(kept, {"x": x}, jax.random.key(0)))

    def decode_rows(self, kept: Kept, x: Array) -> Array:
        """The data that latents ``[..., *event]`` stand for; a trajectory has frames first."""
        lead = x.shape[: x.ndim - len(self.first.event_shape)]
        latents = self.unscaled(kept, x).reshape(-1, *self.first.event_shape)
        rows = self.first.decode(kept, latents, {})
        return rows.reshape(*lead, *rows.shape[1:])

    def decode_density(self, kept: Kept, density: Density) -> Density:
        """A density of latents is none of data; it is shown as it is."""
        del kept
        return density

    def log_volume(self, kept: Kept, batch: Batch, seen: Batch) -> Array:
        """Nats of the data given its latents, ``[B]``, and the log of the volume of their units."""
        assert self.first.nats is not None
        nats = self.first.nats(kept, batch, self.unscaled(kept, seen["x"]))
        if self.scale is None:
            return nats
        return nats + jnp.sum(jnp.broadcast_to(jnp.log(kept["scale"]), self.first.event_shape))


def of_latents(
    family: Family,
    first: FirstStage,
    variables: Variables,
    event_shape: tuple[int, ...],
    *,
    scale: Scale | None = None,
) -> Family:
    """A family of latents as one of the data: the second stage of a model.

    What the first stage was trained to be is part of the state, so that a state is complete without
    it. In evaluation the nats of data given latents are added to those of latents, so that scores
    are bounds on the likelihood of the data. Training is on latents alone, and so are its metrics.

    Real-valued latents may be divided by their standard deviation (:func:`measured_scale`), which
    is part of the state, too: ``model_state["first_stage"]["scale"]``. Scores are of the data all
    the same: the change of units has its volume. Training logs the mean of it, ``latent_scale``.

    Args:
        family: The family, of the first stage's latents.
        first: The first stage.
        variables: Arrays, or their shapes and types, of what it was trained to be.
        event_shape: Shape of one example of the data.
        scale: Which standard deviation latents are divided by; None for none.

    Returns:
        The family of the data. Without nats of data given latents it has no scores.

    Raises:
        ValueError: If the family takes several batches a step, or codes are to be scaled.

    References:
        Rombach et al., arXiv:2112.10752, appendix G, for the scale.
    """
    if scale is not None and first.num_levels is not None:
        raise ValueError("codes have no standard deviation: expected scale None")
    if family.batches_per_step != 1:
        raise ValueError(
            "a family of latents takes one batch a step, but this one takes "
            f"{family.batches_per_step} (family.critic_steps of a GAN, say)"
        )
    # What is known of data says nothing of single latents.
    # What comes back from latents is what the first stage makes of them.
    family = dataclasses.replace(
        family, impute=None, reconstruct=lambda state, batch, key: batch["x"]
    )
    if first.nats is None:
        family = dataclasses.replace(family, eval_step=None, log_prob=None, density_metrics={})
    shrinks = math.prod(first.event_shape) / math.prod(event_shape)
    view = Latents(first=first, variables=variables, shrinks=shrinks, scale=scale)
    found = viewed(family, view)
    if scale is None:
        return found

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        after, metrics = found.train_step(state, batch, key)
        return after, {**metrics, "latent_scale": jnp.mean(state.model_state[view.name]["scale"])}

    return dataclasses.replace(found, train_step=train_step)


def measured_scale(
    first: FirstStage, variables: Variables, batches: Iterable[Batch], scale: Scale
) -> np.ndarray:
    """Standard deviation of latents of rows, about their mean.

    Args:
        first: The first stage.
        variables: What it was trained to be.
        batches: Rows as it sees them. Its latents are draws, where it has a distribution of them.
        scale: Of all entries together, or of each channel, the last axis, by itself.

    Returns:
        float32, ``[]`` or ``[channels]``.

    Raises:
        ValueError: If latents do not vary, or are not finite.
    """
    axes = tuple(range(len(first.event_shape) + (scale == "one")))
    encode = jax.jit(first.encode)
    count, total, squares = 0, np.zeros(()), np.zeros(())
    for number, batch in enumerate(batches):
        key = jax.random.fold_in(jax.random.key(0), number)
        z = np.asarray(encode(variables, batch, key), np.float64)
        total, squares = total + z.sum(axes), squares + np.square(z).sum(axes)
        count += z.size // max(total.size, 1)
    deviation = np.sqrt(squares / count - np.square(total / count))
    if not (np.isfinite(deviation).all() and (deviation > 0.0).all()):
        raise ValueError(
            f"latents have standard deviation {deviation}, expected positive numbers: is the first "
            "stage trained, or has it collapsed? data.first_stage.scale=None takes them as they are"
        )
    return np.asarray(deviation, np.float32)
