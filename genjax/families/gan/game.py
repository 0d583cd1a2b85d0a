"""The losses of a GAN's players: any adversarial loss, any control of the critic's slope."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Generating,
    Metrics,
    ModelState,
    Params,
    PyTree,
    Samples,
    TrainState,
    init_network,
    label_of,
    num_classes_of,
)
from genjax.families.draws import Latent
from genjax.families.gan.path_length import PATH_LENGTH, PathLength
from genjax.families.gan.rows import Rows
from genjax.families.gan.slope_control import SlopeControl
from genjax.families.gan.unrolling import unrolled
from genjax.families.levels import Bins, Units
from genjax.families.players import Turn
from genjax.losses import AdversarialLoss


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
        critic_optimizer: Optimiser of the critic, through which the generator's loss looks ahead
            where ``rows`` says so.
        path_length: How even the generator's steps are held.
    """

    generator: nn.Module
    critic: nn.Module
    loss: AdversarialLoss
    latents: Latent
    slope_control: SlopeControl
    rows: Rows
    units: Units
    critic_optimizer: optax.GradientTransformation | None = None
    path_length: PathLength = PathLength()

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
        return {n: p for n, (p, _) in made.items()}, {**state, **self.path_length.start()}

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
        fake, kept = _in_training(self.generator, own, kept, z, label, _noise_key(key_latent))
        return self.rows.pack(fake), {**state, "generator": kept}

    def real_rows(self, batch: Batch, key: PRNGKeyArray) -> Array:
        """Rows of the data, packed."""
        key_noise, _, _ = jax.random.split(key, 3)
        noise = None
        if isinstance(self.units, Bins):
            noise = jax.random.uniform(key_noise, batch["x"].shape)
        return self.rows.pack(self.units.encode(batch["x"], noise))

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
    ) -> Array:
        """The weighted penalties on the critic, or on the witness function of its features."""

        def outputs_of(x: Array) -> Array:
            variables = {"params": params["critic"], **state["critic"]}
            return cast(Array, self.critic.apply(variables, x, label, train=False))

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
        real_outputs, fake_outputs, kept = self.outputs(params, state, real, fake, label)
        value = jnp.mean(self.loss.critic(real_outputs, fake_outputs))
        metrics = {"real_output": jnp.mean(real_outputs), "fake_output": jnp.mean(fake_outputs)}
        if self.loss.correct is not None:
            metrics["critic_accuracy"] = jnp.mean(self.loss.correct(real_outputs, fake_outputs))
        # Near zero where the generator has collapsed; compared with the data's own.
        metrics["diversity"] = _diversity(fake) / jnp.maximum(_diversity(real), 1e-12)
        if self.slope_control.weights and not self.slope_control.lazy:
            metrics["penalty"] = self.slope_penalty(params, state, real, fake, label, key)
            value += metrics["penalty"]
        return value, (metrics, {**state, "critic": kept})

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
        value = self.slope_penalty(params, state, real, fake, label, key)
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
        before = state
        if self.rows.unroll_steps:
            params, state = self.looked_ahead(params, state, batch, fake, key, turn)
        label = label_of(batch, conditional=self.conditional)
        if label is not None:
            label = jnp.tile(label, self.rows.generator_batch_factor)
        if self.loss.uses_real or self.rows.joint_batches:
            real = self.real_rows(batch, key)
            real_outputs, fake_outputs, _ = self.outputs(params, state, real, fake, label)
        else:
            fake_outputs, _ = _in_training(
                self.critic, params["critic"], state["critic"], fake, label
            )
            real_outputs = fake_outputs  # not looked at
        value = jnp.mean(self.loss.generator(real_outputs, fake_outputs))
        if not self.path_length.active or self.path_length.lazy:
            return value, ({}, before)
        penalty, (metrics, state) = self.path_loss(params, before, batch, fake, key, turn)
        return value + penalty, (metrics, state)

    def looked_ahead(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Params, ModelState]:
        """Networks after steps of the critic on the rows of the generator's step."""
        assert self.critic_optimizer is not None

        def loss_fn(own: Params, state: ModelState) -> tuple[Array, ModelState]:
            value, (_, kept) = self.critic_loss({**params, **own}, state, batch, fake, key, turn)
            return value, kept

        own, state = unrolled(
            loss_fn,
            {"critic": params["critic"]},
            state,
            self.critic_optimizer,
            turn.opt_state["critic"],
            num_steps=self.rows.unroll_steps,
            project=self.slope_control.project,
        )
        return {**params, **own}, state

    def path_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What holds the generator's steps even, on latents of its own; moves their mean length."""
        count = self.path_length.rows(batch["x"].shape[0])
        key_latent, key_path = jax.random.split(jax.random.fold_in(key, 1))
        label = label_of(batch, conditional=self.conditional)
        value, length, mean = self.path_length.penalty(
            self.generator,
            {"params": params["generator"], **state["generator"]},
            state[PATH_LENGTH]["mean"],
            self.latents.draw(key_latent, count),
            None if label is None else label[:count],
            key_path,
        )
        metrics = {"path_length": length, "path_penalty": value}
        return value, (metrics, {**state, PATH_LENGTH: {"mean": mean}})

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


def _in_training(
    network: nn.Module,
    params: Any,
    state: Any,
    x: Array,
    label: Array | None,
    key: PRNGKeyArray | None = None,
) -> tuple[Array, Any]:
    """Applies a network in training; returns its output and its new state."""
    rngs = None if key is None else {"noise": key}
    variables = {"params": params, **state}
    y, new = network.apply(variables, x, label, train=True, mutable=list(state), rngs=rngs)
    return cast(Array, y), {**state, **new}


def _diversity(x: Array) -> Array:
    """Mean squared distance between neighbouring rows of a batch."""
    return jnp.mean(jnp.square(x - jnp.roll(x, 1, axis=0)))
