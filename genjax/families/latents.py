"""Families of the latents of a trained model, and through it of the data."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import Batch, Density, Family, FirstStage, Variables
from genjax.families.views import Kept, viewed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latents:
    """Latents in place of data: see :func:`of_latents`.

    Attributes:
        first: The trained model.
        variables: Shapes and types of what it was trained to be.
        shrinks: Latents for each entry of the data.
        name: Where in the state the variables are.
        said: What protocols say of the data.
    """

    first: FirstStage
    variables: Variables
    shrinks: float
    name: str = "first_stage"
    entrywise = False
    differentiable = False
    scores_in_training = False

    @property
    def protocol(self) -> dict[str, str]:
        """What protocols say of densities."""
        return {"density": "lower bound: latents, and data given them by a first stage"}

    def kept(self) -> Kept:
        """Zeros: a run fills in what was trained."""
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), dict(self.variables))

    def encode(self, kept: Kept, batch: Batch, key: PRNGKeyArray | None) -> Batch:
        """The batch, its ``x`` in latents."""
        if key is None:
            dtype = jnp.int32 if self.first.num_levels else jnp.float32
            return {**batch, "x": jnp.zeros((batch["x"].shape[0], *self.first.event_shape), dtype)}
        found = self.first.encode(kept, batch, jax.random.fold_in(key, 0x1A))
        return {**batch, "x": jax.lax.stop_gradient(found)}

    def encode_rows(self, kept: Kept, x: Array) -> Array:
        """Latents of rows."""
        return self.first.encode(kept, {"x": x}, jax.random.key(0))

    def decode_rows(self, kept: Kept, x: Array) -> Array:
        """The data that latents ``[..., *event]`` stand for; a trajectory has frames first."""
        lead = x.shape[: x.ndim - len(self.first.event_shape)]
        rows = self.first.decode(kept, x.reshape(-1, *self.first.event_shape), {})
        return rows.reshape(*lead, *rows.shape[1:])

    def decode_density(self, kept: Kept, density: Density) -> Density:
        """A density of latents is none of data; it is shown as it is."""
        del kept
        return density

    def log_volume(self, kept: Kept, batch: Batch, seen: Batch) -> Array:
        """Nats of the data given its latents, ``[B]``."""
        return self.first.nats(kept, batch, seen["x"])


def of_latents(
    family: Family, first: FirstStage, variables: Variables, event_shape: tuple[int, ...]
) -> Family:
    """A family of latents as one of the data: the second stage of a model.

    What the first stage was trained to be is part of the state, so that a state is complete without
    it. In evaluation the nats of data given latents are added to those of latents, so that scores
    are bounds on the likelihood of the data. Training is on latents alone, and so are its metrics.

    Args:
        family: The family, of the first stage's latents.
        first: The first stage.
        variables: Arrays, or their shapes and types, of what it was trained to be.
        event_shape: Shape of one example of the data.

    Returns:
        The family of the data.

    Raises:
        ValueError: If the family takes several batches a step.
    """
    if family.batches_per_step != 1:
        raise ValueError(
            "a family of latents takes one batch a step, but this one takes "
            f"{family.batches_per_step} (family.critic_steps of a GAN, say)"
        )
    # What is known of data says nothing of single latents.
    family = dataclasses.replace(family, impute=None)
    shrinks = math.prod(first.event_shape) / math.prod(event_shape)
    return viewed(family, Latents(first=first, variables=variables, shrinks=shrinks))
