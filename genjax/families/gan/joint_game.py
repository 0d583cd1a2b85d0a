"""The losses of a generator and an encoder that play together against a critic of pairs."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    TrainState,
    apply_in_training,
    init_network,
)
from genjax.families.gan.inference import Inference
from genjax.families.gan.inverse import Inverse, squared_distance
from genjax.families.gan.judgement import critic_metrics, diversity
from genjax.families.gan.slope_control import SlopeControl
from genjax.families.players import Turn
from genjax.losses import AdversarialLoss

_OF_ROWS = 0.9
"""Weight of the distance of rows in the score of anomalies, as published."""


class Pairs(NamedTuple):
    """What one pass makes of a batch.

    Attributes:
        z: Latents of the prior, ``[B, Z]``.
        x: Rows generated from them, ``[B, *event]``.
        inferred: Latents of the rows of the batch, ``[B, Z]``.
        x_again: The rows of the batch, encoded and generated again; None where no loss asks.
        z_again: The latents of the prior, generated from and encoded again; None alike.
    """

    z: Array
    x: Array
    inferred: Array
    x_again: Array | None
    z_again: Array | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointGame(Inverse):
    """The losses of the players, as functions of parameters and rows.

    Attributes:
        critic: Module ``(rows, latent, train=...) -> [B]``.
        loss: Losses of both players on the critic's outputs.
        mirrored: The output that says the opposite of one, ``[B] -> [B]``.
        slope_control: Penalties and limits on the critic.
        inference: How the encoder takes part.
    """

    critic: nn.Module
    loss: AdversarialLoss
    mirrored: Callable[[Array], Array]
    slope_control: SlopeControl
    inference: Inference

    @property
    def makers(self) -> tuple[str, ...]:
        """Names of the networks that play against the critic."""
        noise = ("noise",) if self.inference.generator_noise else ()
        return ("generator", "encoder", *noise)

    def init_networks(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters and state of all networks."""
        key, key_critic = jax.random.split(key)
        params, state = (dict(part) for part in Inverse.init_networks(self, key, batch))
        z, x = jnp.zeros((1, self.latents.latent_size)), jnp.zeros((1, *self.event_shape))
        params["critic"], state["critic"] = init_network(self.critic, key_critic, x, z)
        if self.inference.generator_noise:
            params["noise"] = {"log_std": jnp.zeros(self.event_shape)}
        return params, state

    # The pass.

    def generate(
        self, params: Params, state: ModelState, batch: Batch, factor: int, key: PRNGKeyArray
    ) -> tuple[Pairs, ModelState]:
        """Both pairs of a step, and the state after the pass."""
        del factor  # as many of either pair
        keys = jax.random.split(key, 3)
        real = self.units.encode(batch["x"])
        z = self.latents.draw(keys[0], real.shape[0])
        x, kept = self._rows(params, state, z, keys[1])
        inferred, of_encoder = self._latents(params, state, real, keys[2])
        x_again = z_again = None
        # The state that is kept is that of the pairs; these go through the networks once more.
        if self.inference.reconstruction_weight:
            x_again, _ = self._rows(params, state, inferred, None)
        if self.inference.latent_weight:
            z_again, _ = self._latents(params, state, x, None)
        state = {**state, "generator": kept, "encoder": of_encoder}
        return Pairs(z, x, inferred, x_again, z_again), state

    def _rows(
        self, params: Params, state: ModelState, z: Array, key: PRNGKeyArray | None
    ) -> tuple[Array, Any]:
        """Rows of latents, with noise where the generator has it and there is a key."""
        x, kept = apply_in_training(self.generator, params["generator"], state["generator"], z)
        if self.inference.generator_noise and key is not None:
            x += jnp.exp(params["noise"]["log_std"]) * jax.random.normal(key, x.shape)
        return x, kept

    def _latents(
        self, params: Params, state: ModelState, x: Array, key: PRNGKeyArray | None
    ) -> tuple[Array, Any]:
        """Latents of rows, drawn where the encoder is stochastic and there is a key."""
        found, kept = apply_in_training(self.encoder, params["encoder"], state["encoder"], x)
        mean, log_std = found
        if log_std is not None and key is not None:
            mean += jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        return self.latents.within(mean), kept

    # Losses.

    def outputs(
        self, params: Params, state: ModelState, real: Array, pairs: Pairs
    ) -> tuple[Array, Array, Any]:
        """The critic's outputs for both pairs, and its state after them."""
        own, kept = params["critic"], state["critic"]
        if self.inference.joint_batches:
            x, z = jnp.concatenate([real, pairs.x]), jnp.concatenate([pairs.inferred, pairs.z])
            both, kept = apply_in_training(self.critic, own, kept, x, z)
            of_real, of_fake = jnp.split(both, 2)
        else:
            of_real, kept = apply_in_training(self.critic, own, kept, real, pairs.inferred)
            of_fake, kept = apply_in_training(self.critic, own, kept, pairs.x, pairs.z)
        return of_real, of_fake, kept

    def critic_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Pairs,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises: rows with their latents are real, latents with theirs are not.

        References:
            Donahue et al., arXiv:1605.09782, eq. 3.
        """
        real = self.units.encode(batch["x"])
        of_real, of_fake, kept = self.outputs(params, state, real, fake)
        value = jnp.mean(self.loss.critic(of_real, of_fake))
        metrics = critic_metrics(self.loss, of_real, of_fake)
        metrics["diversity"] = diversity(fake.x, real)
        if self.slope_control.weights and not self.slope_control.lazy:
            metrics["penalty"] = self._penalty(params, state, real, fake, key)
            value += metrics["penalty"]
        return value, (metrics, {**state, "critic": kept})

    def penalty_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Pairs,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What the critic minimises in steps between, if its penalties are lazy."""
        value = self._penalty(params, state, self.units.encode(batch["x"]), fake, key)
        return value, ({"penalty": value}, state)

    def _penalty(
        self, params: Params, state: ModelState, real: Array, pairs: Pairs, key: PRNGKeyArray
    ) -> Array:
        """The weighted penalties on the critic's slope in rows and latents together."""
        size = self.latents.latent_size

        def joined(x: Array, z: Array) -> Array:
            return jnp.concatenate([x.reshape(x.shape[0], -1), z], axis=1)

        def critic_fn(joint: Array) -> Array:
            variables = {"params": params["critic"], **state["critic"]}
            x = joint[:, :-size].reshape(-1, *self.event_shape)
            return cast(Array, self.critic.apply(variables, x, joint[:, -size:], train=False))

        ends = joined(real, pairs.inferred), joined(pairs.x, pairs.z)
        return self.slope_control.penalty(critic_fn, *ends, key)

    def generator_loss(
        self,
        params: Params,
        state: ModelState,
        batch: Batch,
        fake: Pairs,
        key: PRNGKeyArray,
        turn: Turn,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """What generator and encoder minimise together. The critic's state stands still."""
        real, inference = self.units.encode(batch["x"]), self.inference
        of_real, of_fake, _ = self.outputs(params, state, real, fake)
        if not inference.encoder_plays:
            of_real = jax.lax.stop_gradient(of_real)
        value = jnp.mean(self.loss.generator(of_real, of_fake))
        # To the encoder rows are what latents are to the generator: it wants the opposite said of
        # its pairs. Losses that compare the pairs say so already.
        if inference.encoder_plays and not self.loss.uses_real:
            opposite = self.mirrored(of_fake), self.mirrored(of_real)
            value += jnp.mean(self.loss.generator(*opposite))
        metrics = {}
        if fake.x_again is not None:
            metrics["reconstruction_loss"] = jnp.mean(squared_distance(real, fake.x_again))
            value += inference.reconstruction_weight * metrics["reconstruction_loss"]
        if fake.z_again is not None:
            metrics["latent_loss"] = jnp.mean(squared_distance(fake.z, fake.z_again))
            value += inference.latent_weight * metrics["latent_loss"]
        return value, (metrics, state)

    # What was trained.

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """Distances of rows and reconstructions, of entries and of the critic's features.

        References:
            Zenati et al., Efficient GAN-Based Anomaly Detection, arXiv:1802.06222, section 3, for
            features and the score of anomalies.
        """
        x = self.units.encode(batch["x"])
        z = self.infer(state, x)
        output, features = self._seen(state, x, z)
        again = self.rows(state, z)
        _, of_again = self._seen(state, again, z)
        found = {**Inverse.eval_step(self, state, batch, key), "real_output": output}
        if features is not None and of_again is not None:
            found["feature_distance"] = jnp.sum(jnp.abs(features - of_again), axis=1)
            apart = jnp.sum(jnp.abs(x - again), axis=tuple(range(1, x.ndim)))
            found["anomaly"] = _OF_ROWS * apart + (1.0 - _OF_ROWS) * found["feature_distance"]
        return found

    def outlier_scores(self) -> Mapping[str, Callable[[TrainState, Batch, PRNGKeyArray], Array]]:
        """Distances among what evaluation gives, by name; of features if the critic keeps them."""
        x, z = jnp.zeros((1, *self.event_shape)), jnp.zeros((1, self.latents.latent_size))
        _, kept = jax.eval_shape(
            lambda key: self.critic.init_with_output(key, x, z, mutable=True), jax.random.key(0)
        )
        of_features = ("feature_distance", "anomaly")
        has_features = "features" in kept.get("intermediates", {})
        return self.as_scores("reconstruction_distance", *(of_features if has_features else ()))

    def _seen(self, state: TrainState, x: Array, z: Array) -> tuple[Array, Array | None]:
        """The critic's outputs and, of critics that keep them, its features ``[B, F]``."""
        variables = {"params": state.params["critic"], **state.model_state["critic"]}
        output, kept = cast(Any, self.critic.apply(variables, x, z, mutable="intermediates"))
        features = kept.get("intermediates", {}).get("features")
        return output, None if features is None else features[0]
