"""The losses of a semi-supervised GAN's players."""

import dataclasses
from typing import Any, Literal, TypeAlias, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.devices import average
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    Samples,
    TrainState,
    init_network,
)
from genjax.families.draws import Latent
from genjax.families.levels import Units
from genjax.families.players import Turn

Form: TypeAlias = Literal["implicit", "explicit"]
Target: TypeAlias = Literal["feature_matching", "absolute_feature_matching", "passing"]

UNLABELLED = "unlabelled/x"
"""Unlabelled rows in a batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SemiSupervisedGame:
    """The losses of both players, as functions of parameters and rows.

    Attributes:
        generator: Module ``(latent, label, train=...) -> rows``.
        critic: Classifier ``x -> (logits, features)``, of as many logits as ``form`` asks for.
        form: Whether "generated" has a logit of its own.
        target: What the generator minimises.
        unlabelled_weight: Weight of the critic's losses of unlabelled and generated rows.
        latents: What the generator starts from.
        units: Data to the units of the networks, and back.
        event_shape: Shape of one example.
    """

    generator: nn.Module
    critic: nn.Module
    form: Form
    target: Target
    unlabelled_weight: float
    latents: Latent
    units: Units
    event_shape: tuple[int, ...]

    def init_networks(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters and state of both; those of the critic may start from unlabelled rows."""
        key_generator, key_critic = jax.random.split(key)
        x = batch[UNLABELLED].reshape(-1, *self.event_shape)
        latent = jnp.zeros((1, self.latents.latent_size))
        made = {
            "critic": init_network(self.critic, key_critic, self.units.encode(x)),
            "generator": init_network(self.generator, key_generator, latent),
        }
        return {n: p for n, (p, _) in made.items()}, {n: s for n, (_, s) in made.items()}

    def generate(
        self, params: Params, state: ModelState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Array, ModelState]:
        """As many rows as there are unlabelled ones, and the state after the pass."""
        key_latent, _ = jax.random.split(key)
        z = self.latents.draw(key_latent, batch[UNLABELLED].shape[0] * factor)
        variables = {"params": params["generator"], **state["generator"]}
        fake, kept = self.generator.apply(
            variables, z, None, train=True, mutable=list(state["generator"])
        )
        return cast(Array, fake), {**state, "generator": {**state["generator"], **kept}}

    def classify(
        self, params: Params, state: ModelState, x: Array, key: PRNGKeyArray | None
    ) -> tuple[Array, Array]:
        """Logits of all classes and "generated", and features; with noise if there is a key."""
        variables = {"params": params["critic"], **state["critic"]}
        rngs = None if key is None else {"dropout": key}
        logits, features = cast(Any, self.critic.apply(variables, x, rngs=rngs))
        if self.form == "implicit":
            logits = losses.with_generated_logit(logits)
        return logits, features

    def critic_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises, of labelled, unlabelled and generated rows."""
        rows = [self.units.encode(batch["x"]), self.units.encode(batch[UNLABELLED]), fake]
        # One pass: a classifier has no statistics of a batch that origins would mix in.
        logits, _ = self.classify(params, state, jnp.concatenate(rows), jax.random.split(key)[1])
        ends = [len(rows[0]), len(rows[0]) + len(rows[1])]
        known, unknown, generated = jnp.split(logits, ends)
        labelled = jnp.mean(
            losses.labelled_loss(known, batch["label"], given_real=self.form == "implicit")
        )
        unlabelled = jnp.mean(losses.unlabelled_loss(unknown))
        made = jnp.mean(losses.generated_loss(generated))
        right = jnp.mean(losses.correct_at(0.0)(*map(losses.real_log_odds, (unknown, generated))))
        wrong = jnp.argmax(known[:, :-1], axis=1) != batch["label"]
        metrics = {
            "labelled_loss": labelled,
            "unlabelled_loss": unlabelled,
            "generated_loss": made,
            "critic_accuracy": right,
            "labelled_error": jnp.mean(wrong.astype(jnp.float32)),
        }
        return labelled + self.unlabelled_weight * (unlabelled + made), (metrics, state)

    def generator_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Array,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the generator minimises: on unlabelled rows of its own, or on its rows alone."""
        _, key_noise = jax.random.split(key)
        if self.target == "passing":
            logits, _ = self.classify(params, state, fake, key_noise)
            return jnp.mean(losses.unlabelled_loss(logits)), ({}, state)
        real = self.units.encode(batch[UNLABELLED])
        _, features = self.classify(params, state, jnp.concatenate([real, fake]), key_noise)
        # Means of all devices' rows: the distance of means is no mean of distances.
        means = [average(jnp.mean(h, axis=0))[None] for h in jnp.split(features, [len(real)])]
        distance: Literal["squared", "absolute"] = "squared"
        if self.target == "absolute_feature_matching":
            distance = "absolute"
        return losses.feature_matching_loss(*means, distance=distance), ({}, state)

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """Cross-entropy and error of each row by the averaged critic."""
        del key
        x = self.units.encode(batch["x"])
        logits, _ = self.classify(state.ema, state.model_state, x, None)
        wrong = jnp.argmax(logits[:, :-1], axis=1) != batch["label"]
        return {
            "cross_entropy": losses.labelled_loss(logits, batch["label"], given_real=True),
            "error": wrong.astype(jnp.float32),
            "real_log_odds": losses.real_log_odds(logits),
        }

    def class_logits(self, state: TrainState, x: Array) -> Array:
        """Logits of the classes of rows in the networks' units, by the averaged critic."""
        logits, _ = self.classify(state.ema, state.model_state, x, None)
        return logits[:, :-1]

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Rows from the averaged generator: see :class:`~genjax.families.base.Family`."""
        variables = {"params": state.ema["generator"], **state.model_state["generator"]}
        z = self.latents.draw(key, batch["x"].shape[0])
        return Samples(rows=self.units.decode(cast(Array, self.generator.apply(variables, z))))
