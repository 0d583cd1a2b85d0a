"""The losses of a GAN's players: any adversarial loss, any control of the critic's slope."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import total
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    Samples,
    TrainState,
    init_network,
    label_of,
    num_classes_of,
)
from genjax.families.draws import Latent
from genjax.families.gan.augmentation import Augment
from genjax.families.gan.augmentation_pipeline import augment
from genjax.families.gan.rows import Rows
from genjax.families.gan.slope_control import SlopeControl
from genjax.families.levels import Bins, Units
from genjax.families.players import Turn
from genjax.losses import AdversarialLoss

_AUGMENT = "augment"
"""Where the state of augmentation is, beside that of the networks."""
_REAL, _FAKE = 3, 4
"""Numbers of the keys of changes, after the three that a step's key is split into."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game:
    """The losses of a GAN's players, as functions of parameters and rows.

    Attributes:
        generator: Module ``(latent, label, train=...) -> rows``.
        critic: Module ``(rows, label, train=...) -> [B]``, or ``[B, K]`` for an MMD GAN.
        loss: Losses of both players on the critic's outputs.
        latents: What the generator starts from.
        slope_control: Penalties and limits on the critic.
        rows: Which rows the players see together.
        units: Data to the units of the networks, and back.
        augment: How strongly images are changed before the critic sees them.
    """

    generator: nn.Module
    critic: nn.Module
    loss: AdversarialLoss
    latents: Latent
    slope_control: SlopeControl
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
        """Parameters and state of both networks."""
        key_generator, key_critic = jax.random.split(key)
        label = batch["label"][:1].reshape(-1)[:1] if self.conditional else None
        packed = (*event_shape[:-1], event_shape[-1] * self.rows.pack_size)
        latent, rows = jnp.zeros((1, self.latents.latent_size)), jnp.zeros((1, *packed))
        made = {
            "generator": init_network(self.generator, key_generator, latent, label),
            "critic": init_network(self.critic, key_critic, rows, label),
        }
        state = {n: s for n, (_, s) in made.items()}
        kept = self.augment.init() if self.augment is not None else {}
        return {n: p for n, (p, _) in made.items()}, {**state, **({_AUGMENT: kept} if kept else {})}

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
        fake, kept = _in_training(self.generator, params["generator"], state["generator"], z, label)
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
        return self.augment.current(state.get(_AUGMENT, {}), turn.step, rows)

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
            outputs, kept = _in_training(self.critic, own, kept, together, both)
            real_outputs, fake_outputs = jnp.split(outputs, 2)
        else:
            real_outputs, kept = _in_training(self.critic, own, kept, real, label)
            fake_outputs, kept = _in_training(self.critic, own, kept, fake, label)
        return real_outputs, fake_outputs, kept

    def slope_penalty(
        self,
        params: Params,
        state: ModelState,
        real: Array,
        fake: Array,
        label: Array | None,
        key: PRNGKeyArray,
        strength: Array | None = None,
    ) -> Array:
        """The weighted penalties on the critic, or on the witness function of its features."""

        def outputs_of(x: Array) -> Array:
            variables = {"params": params["critic"], **state["critic"]}
            # The slope with respect to rows before they are changed (Karras et al.,
            # arXiv:2006.06676, appendix C).
            seen = self.seen(x, strength, key, _REAL)
            return cast(Array, self.critic.apply(variables, seen, label, train=False))

        # Of an MMD GAN the slope that counts is that of the witness function, f(x) = E k(x, real) -
        # E k(x, fake), not that of its many features (Binkowski et al., arXiv:1801.01401).
        critic_fn = outputs_of
        if self.loss.witness is not None:
            witness = self.loss.witness
            ends = outputs_of(real), outputs_of(fake)

            def critic_fn(x: Array) -> Array:
                return witness(outputs_of(x), *ends)

        _, _, key_slope = jax.random.split(key, 3)
        return self.slope_control.penalty(critic_fn, real, fake, key_slope)

    def critic_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises in each of its steps."""
        real, label = self.real_rows(batch, key), label_of(batch, conditional=self.conditional)
        strength = self.strength(state, batch, turn)
        seen_real = self.seen(real, strength, key, _REAL)
        seen_fake = self.seen(fake, strength, key, _FAKE)
        real_outputs, fake_outputs, kept = self.outputs(params, state, seen_real, seen_fake, label)
        value = jnp.mean(self.loss.critic(real_outputs, fake_outputs))
        metrics = {"real_output": jnp.mean(real_outputs), "fake_output": jnp.mean(fake_outputs)}
        if self.loss.correct is not None:
            metrics["critic_accuracy"] = jnp.mean(self.loss.correct(real_outputs, fake_outputs))
        # Near zero where the generator has collapsed; compared with the data's own.
        metrics["diversity"] = _diversity(fake) / jnp.maximum(_diversity(real), 1e-12)
        if self.slope_control.weights and not self.slope_control.lazy:
            metrics["penalty"] = self.slope_penalty(params, state, real, fake, label, key, strength)
            value += metrics["penalty"]
        state = {**state, "critic": kept}
        if self.augment is not None and strength is not None:
            learnt, told = self.augment.learn(
                state.get(_AUGMENT, {}), real_outputs, self.loss.threshold
            )
            metrics |= {"augment_strength": strength, **told}
            state |= {_AUGMENT: learnt} if learnt else {}
        return value, (metrics, state)

    def penalty_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises in steps between, if its penalties are lazy."""
        real, label = self.real_rows(batch, key), label_of(batch, conditional=self.conditional)
        strength = self.strength(state, batch, turn)
        value = self.slope_penalty(params, state, real, fake, label, key, strength)
        return value, ({"penalty": value}, state)

    def generator_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the generator minimises. The critic's state stands still."""
        label = label_of(batch, conditional=self.conditional)
        if label is not None:
            label = jnp.tile(label, self.rows.generator_batch_factor)
        strength = self.strength(state, batch, turn)
        fake = self.seen(fake, strength, key, _FAKE)
        if self.rows.takes_real(self.loss):
            real = self.seen(self.real_rows(batch, key), strength, key, _REAL)
            real_outputs, fake_outputs, _ = self.outputs(params, state, real, fake, label)
        else:
            fake_outputs, _ = _in_training(
                self.critic, params["critic"], state["critic"], fake, label
            )
            real_outputs = fake_outputs  # not looked at
        return jnp.mean(self.loss.generator(real_outputs, fake_outputs)), ({}, state)

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Rows from the averaged generator: see :class:`~genjax.families.base.Family`."""
        variables = {"params": state.ema["generator"], **state.model_state["generator"]}
        z = self.latents.draw(key, batch["x"].shape[0])
        label = label_of(batch, conditional=self.conditional)
        return Samples(
            rows=self.units.decode(cast(Array, self.generator.apply(variables, z, label)))
        )


def _in_training(
    network: nn.Module, params: Any, state: Any, x: Array, label: Array | None
) -> tuple[Array, Any]:
    """Applies a network in training; returns its output and its new state."""
    y, new = network.apply({"params": params, **state}, x, label, train=True, mutable=list(state))
    return cast(Array, y), {**state, **new}


def _diversity(x: Array) -> Array:
    """Mean squared distance between neighbouring rows of a batch."""
    return jnp.mean(jnp.square(x - jnp.roll(x, 1, axis=0)))
