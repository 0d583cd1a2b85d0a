"""The losses of a GAN's players: any adversarial loss, any control of the critic's slope."""

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    label_of,
)
from genjax.families.gan.judgement import critic_metrics, diversity
from genjax.families.gan.path_length import PATH_LENGTH, PathLength
from genjax.families.gan.seats import AUGMENT, FAKE, REAL, Seats, in_training
from genjax.families.gan.slope_control import SlopeControl
from genjax.families.gan.unrolling import unrolled
from genjax.families.players import Turn
from genjax.losses import AdversarialLoss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Game(Seats):
    """The losses of a GAN's players, as functions of parameters and rows.

    Attributes:
        loss: Losses of both players on the critic's outputs.
        slope_control: Penalties and limits on the critic.
        critic_optimizer: Optimiser of the critic, through which the generator's loss looks ahead
            where ``rows`` says so.
        path_length: How even the generator's steps are held.
    """

    loss: AdversarialLoss
    slope_control: SlopeControl
    critic_optimizer: optax.GradientTransformation | None = None
    path_length: PathLength = PathLength()

    def init_networks(
        self, key: PRNGKeyArray, batch: Batch, event_shape: tuple[int, ...]
    ) -> tuple[Params, ModelState]:
        """Parameters and state of both networks, and the mean of path lengths."""
        params, state = super().init_networks(key, batch, event_shape)
        return params, {**state, **self.path_length.start()}

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
            seen = self.seen(x, strength, key, REAL)
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
        seen_real = self.seen(real, strength, key, REAL)
        seen_fake = self.seen(fake, strength, key, FAKE)
        real_outputs, fake_outputs, kept = self.outputs(params, state, seen_real, seen_fake, label)
        value = jnp.mean(self.loss.critic(real_outputs, fake_outputs))
        metrics = critic_metrics(self.loss, real_outputs, fake_outputs)
        metrics["diversity"] = diversity(fake, real)
        if self.slope_control.weights and not self.slope_control.lazy:
            metrics["penalty"] = self.slope_penalty(params, state, real, fake, label, key, strength)
            value += metrics["penalty"]
        state = {**state, "critic": kept}
        if self.augment is not None and strength is not None:
            learnt, told = self.augment.learn(
                state.get(AUGMENT, {}), real_outputs, self.loss.threshold
            )
            metrics |= {"augment_strength": strength, **told}
            state |= {AUGMENT: learnt} if learnt else {}
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
        before = state
        if self.rows.unroll_steps:
            params, state = self.looked_ahead(params, state, batch, fake, key, turn)
        label = label_of(batch, conditional=self.conditional)
        if label is not None:
            label = jnp.tile(label, self.rows.generator_batch_factor)
        strength = self.strength(state, batch, turn)
        fake = self.seen(fake, strength, key, FAKE)
        if self.loss.uses_real or self.rows.joint_batches:
            real = self.seen(self.real_rows(batch, key), strength, key, REAL)
            real_outputs, fake_outputs, _ = self.outputs(params, state, real, fake, label)
        else:
            fake_outputs, _ = in_training(
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
