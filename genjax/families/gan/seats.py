"""The two networks of a GAN: how they start, what is generated, and what the critic is shown."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import total
from genjax.families.base import (
    Batch,
    Generating,
    ModelState,
    Params,
    PyTree,
    Samples,
    TrainState,
    apply_in_training,
    init_network,
    label_of,
    num_classes_of,
)
from genjax.families.draws import Latent
from genjax.families.gan.augmentation import Augment
from genjax.families.gan.augmentation_pipeline import augment
from genjax.families.gan.rows import Rows
from genjax.families.levels import Bins, Units
from genjax.families.players import Turn

AUGMENT = "augment"
"""Where the state of augmentation is, beside that of the networks."""
REAL, FAKE = 3, 4
"""Numbers of the keys of changes, after the three that a step's key is split into."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seats:
    """The networks of a GAN, and what is put before them.

    Attributes:
        generator: Module ``(latent, label, train=...) -> rows``.
        critic: Module ``(rows, label, train=...) -> [B]``, or ``[B, K]`` for an MMD GAN.
        latents: What the generator starts from.
        rows: Which rows the players see together.
        units: Data to the units of the networks, and back.
        augment: How strongly images are changed before the critic sees them.
    """

    generator: nn.Module
    critic: nn.Module
    latents: Latent
    rows: Rows
    units: Units
    augment: Augment | None = None

    @property
    def conditional(self) -> bool:
        """Whether the networks take labels."""
        return num_classes_of(self.generator) is not None

    def init_networks(
        self, key: PRNGKeyArray, batch: Batch, event_shape: tuple[int, ...]
    ) -> tuple[Params, ModelState]:
        """Parameters and state of both networks; the critic's layers may start from real rows."""
        key_generator, key_critic = jax.random.split(key)
        label = batch["label"].reshape(-1) if self.conditional else None
        one = None if label is None else label[:1]
        if "x" in batch:
            rows = self.real_rows({"x": batch["x"].reshape(-1, *event_shape)}, key)
        else:  # where only shapes are asked for
            packed = (*event_shape[:-1], event_shape[-1] * self.rows.pack_size)
            rows, label = jnp.zeros((1, *packed)), one
        latent = jnp.zeros((1, self.latents.latent_size))
        made = {
            "generator": init_network(self.generator, key_generator, latent, one),
            "critic": init_network(self.critic, key_critic, rows, label),
        }
        state = {n: s for n, (_, s) in made.items()}
        kept = self.augment.init() if self.augment is not None else {}
        state |= {AUGMENT: kept} if kept else {}
        return {n: p for n, (p, _) in made.items()}, state

    def generate(
        self, params: Params, state: ModelState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Array, ModelState]:
        """``factor`` generated rows for each of a batch, packed, and the state after the pass."""
        # One key a step, split alike everywhere: noise of the data, latents, slope.
        _, key_latent, _ = jax.random.split(key, 3)
        label = label_of(batch, conditional=self.conditional)
        if label is not None:
            label = jnp.tile(label, factor)
        z = self.latents.draw(key_latent, batch["x"].shape[0] * factor)
        own, kept = params["generator"], state["generator"]
        fake, kept = in_training(self.generator, own, kept, z, label, _noise_key(key_latent))
        return self.rows.pack(fake), {**state, "generator": kept}

    def real_rows(self, batch: Batch, key: PRNGKeyArray) -> Array:
        """Rows of the data, packed."""
        key_noise, _, _ = jax.random.split(key, 3)
        noise = None
        if isinstance(self.units, Bins):
            noise = jax.random.uniform(key_noise, batch["x"].shape)
        return self.rows.pack(self.units.encode(batch["x"], noise))

    def strength(self, state: ModelState, batch: Batch, turn: Turn) -> Array | None:
        """How strongly images are augmented in a step; None for not at all."""
        if self.augment is None:
            return None
        rows = total(jnp.asarray(batch["x"].shape[0] * self.rows.accumulate_batches, jnp.float32))
        return self.augment.current(state.get(AUGMENT, {}), turn.step, rows)

    def seen(self, x: Array, strength: Array | None, key: PRNGKeyArray, origin: int) -> Array:
        """Rows of one origin as the critic sees them, with draws of the step's key for them."""
        if self.augment is None or strength is None:
            return x
        return augment(x, strength, jax.random.fold_in(key, origin), self.augment.pipeline)

    def outputs(
        self, params: Params, state: ModelState, real: Array, fake: Array, label: Array | None
    ) -> tuple[Array, Array, Any]:
        """The critic's outputs for real and generated rows, and its state after them."""
        own, kept = params["critic"], state["critic"]
        if self.rows.joint_batches:
            # One pass, so that batch statistics are those of real and generated rows together.
            both = None if label is None else jnp.concatenate([label, label])
            together = jnp.concatenate([real, fake])
            outputs, kept = in_training(self.critic, own, kept, together, both)
            real_outputs, fake_outputs = jnp.split(outputs, 2)
        else:
            real_outputs, kept = in_training(self.critic, own, kept, real, label)
            fake_outputs, kept = in_training(self.critic, own, kept, fake, label)
        return real_outputs, fake_outputs, kept

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Rows from the averaged generator: see :class:`~genjax.families.base.Family`."""
        z = self.latents.draw(key, batch["x"].shape[0])
        label = label_of(batch, conditional=self.conditional)
        variables = {"params": state.ema["generator"], **state.model_state["generator"]}
        made = self.generator.apply(variables, z, label, rngs={"noise": _noise_key(key)})
        return Samples(rows=self.units.decode(cast(Array, made)))

    def decode(self, state: TrainState, latents: PyTree, batch: Batch) -> Array:
        """Rows of given latents from the averaged generator."""
        return self.units.decode(self.generating(state, batch).make(latents))

    def generating(self, state: TrainState, batch: Batch) -> Generating:
        """The averaged generator as inversion asks it."""
        variables = {"params": state.ema["generator"], **state.model_state["generator"]}
        label = label_of(batch, conditional=self.conditional)
        # Of grey levels that are spread over their bins, the middle.
        half = 0.5 if isinstance(self.units, Bins) else None
        return Generating(
            draw=self.latents.draw,
            clip=self.latents.clip,
            make=lambda z: cast(Array, self.generator.apply(variables, z, label)),
            encode=lambda x: self.units.encode(
                x, None if half is None else jnp.full(x.shape, half)
            ),
        )


def _noise_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Key of what a generator draws besides its latents, from theirs."""
    return jax.random.fold_in(key, 1)


def in_training(
    network: nn.Module,
    params: Any,
    state: Any,
    x: Array,
    label: Array | None,
    key: PRNGKeyArray | None = None,
) -> tuple[Array, Any]:
    """Applies a network in training; returns its output and its new state."""
    rngs = None if key is None else {"noise": key}
    return apply_in_training(network, params, state, x, label, rngs=rngs)
