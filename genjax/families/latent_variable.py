"""A model of data by latents with Gaussian priors, and the bounds on its likelihood."""

import dataclasses
import math
from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    Step,
    init_network,
    label_of,
    num_classes_of,
)
from genjax.families.draws import fold_each, keys_by_example
from genjax.families.heads import GaussianPosterior, ObservedFeatures
from genjax.families.levels import Ends, Reals, Units
from genjax.families.likelihood import draws_of
from genjax.families.observations import Entries, Observation
from genjax.families.variational_objective import VariationalObjective


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentVariableModel:
    """Encoder, decoder and prior, as functions of parameters and rows.

    Attributes:
        encoder: Module ``(x, label) -> features [B, F]``.
        decoder: Module ``(latent, label) -> features``.
        latent_size: Entries of the latent.
        observation: The distribution of data at each place.
        objective: What is minimised.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        prior: ``"standard"`` normal, or one of its own for each ``"label"``.
    """

    encoder: nn.Module
    decoder: nn.Module
    latent_size: int
    observation: Observation
    objective: VariationalObjective
    event_shape: tuple[int, ...]
    num_levels: int | None
    prior: Literal["standard", "label"] = "standard"

    def __post_init__(self) -> None:
        self.observation.check(self.num_levels)
        if self.latent_size < 1:
            raise ValueError(f"latent_size must be at least 1, got {self.latent_size}")
        if self.prior not in ("standard", "label"):
            raise ValueError(f"prior must be 'standard' or 'label', got {self.prior!r}")
        if num_classes_of(self.encoder) is not None and num_classes_of(self.decoder) is None:
            raise ValueError(
                "the encoder is told labels that the decoder is not: set model.decoder.num_classes "
                "too, or leave both without"
            )
        if self.prior == "label" and num_classes_of(self.decoder) is None:
            raise ValueError("prior='label' needs model.decoder.num_classes")

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def conditional(self) -> bool:
        """Whether the model is one of data given labels."""
        return num_classes_of(self.decoder) is not None

    @property
    def entries(self) -> Entries:
        """What is observed at a place."""
        return Entries(self.event_shape[-1], self.num_levels)

    @property
    def units(self) -> Units:
        """Data as the encoder sees it."""
        return Reals() if self.num_levels is None else Ends(self.num_levels)

    def posterior_net(self) -> GaussianPosterior:
        """Encoder and the layer after it."""
        return GaussianPosterior(self.encoder, self.latent_size)

    def observed_net(self) -> ObservedFeatures:
        """Decoder and the layer after it."""
        return ObservedFeatures(
            self.decoder,
            self.event_shape,
            self.observation.num_outputs(self.entries),
            self.observation.num_shared,
        )

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of encoder, decoder and, of each label, the prior."""
        label = label_of(batch, conditional=self.conditional)
        x = self.units.encode(batch["x"])
        params = {}
        params["encoder"], _ = init_network(
            self.posterior_net(), jax.random.fold_in(key, 0), x, self._told(label)
        )
        z = jnp.zeros((x.shape[0], self.latent_size))
        params["decoder"], _ = init_network(
            self.observed_net(), jax.random.fold_in(key, 1), z, label
        )
        if self.prior == "label":
            count = num_classes_of(self.decoder)
            params["prior"] = {"gaussian": jnp.zeros((count, 2, self.latent_size))}
        return params, {}

    def _told(self, label: Array | None) -> Array | None:
        return None if num_classes_of(self.encoder) is None else label

    def posterior(self, params: Params, batch: Batch) -> tuple[Array, Array]:
        """Mean and log standard deviation of the latent of each row, ``[B, Z]``."""
        label = self._told(label_of(batch, conditional=self.conditional))
        x = self.units.encode(batch["x"])
        found = self.posterior_net().apply({"params": params["encoder"]}, x, label)
        return cast(tuple[Array, Array], found)

    def prior_of(self, params: Params, label: Array | None, rows: int) -> tuple[Array, Array]:
        """Mean and log standard deviation of the prior of each row, ``[B, Z]``."""
        if self.prior == "standard":
            zeros = jnp.zeros((rows, self.latent_size))
            return zeros, zeros
        both = params["prior"]["gaussian"][label]
        return both[:, 0], both[:, 1]

    def outputs(self, params: Params, z: Array, label: Array | None) -> Array:
        """Parameters of the observation for latents ``[B, Z]``."""
        return cast(Array, self.observed_net().apply({"params": params["decoder"]}, z, label))

    def data_nats(self, params: Params, batch: Batch, z: Array) -> Array:
        """Nats of data given latents of several draws ``[K, B, Z]``, ``[K, B]``."""
        label = label_of(batch, conditional=self.conditional)
        count, rows = z.shape[:2]

        def repeated(a: Array | None) -> Array | None:
            return None if a is None else jnp.tile(a, (count,) + (1,) * (a.ndim - 1))

        outputs = self.outputs(params, z.reshape(count * rows, -1), repeated(label))
        x = cast(Array, repeated(batch["x"]))
        return self.observation.nats(x, outputs, self.entries).reshape(count, rows)

    def known_nats(self, params: Params, batch: Batch, z: Array) -> Array:
        """Nats ``[B]`` of the places that are known as a whole, given latents ``[B, Z]``.

        A table is one place, all of whose entries count.
        """
        if len(self.event_shape) == 1:
            return self.data_nats(params, batch, z[None])[0]
        outputs = self.outputs(params, z, label_of(batch, conditional=self.conditional))
        x = batch["x"].reshape(-1, self.event_shape[-1])
        nats = self.observation.nats(x, outputs.reshape(len(x), -1), self.entries)
        known = jnp.all(batch["known"], axis=-1).reshape(len(z), -1)
        return jnp.sum(jnp.where(known, nats.reshape(known.shape), 0.0), axis=1)

    def log_weights(
        self, params: Params, batch: Batch, z: Array, posterior: tuple[Array, Array]
    ) -> Array:
        """Log of ``p(x, z) / q(z | x)`` of latents of several draws ``[K, B, Z]``, ``[K, B]``."""
        label = label_of(batch, conditional=self.conditional)
        prior = self.prior_of(params, label, z.shape[1])
        ratio = _log_normal(z, *prior) - _log_normal(z, *posterior)
        return ratio - self.data_nats(params, batch, z)

    def kl(self, params: Params, batch: Batch, posterior: tuple[Array, Array]) -> Array:
        """Divergence of each entry of the latent from its prior, ``[B, Z]``."""
        label = label_of(batch, conditional=self.conditional)
        mean_p, log_p = self.prior_of(params, label, posterior[0].shape[0])
        mean, log_std = posterior
        of_entry = jax.vmap(losses.gaussian_kl_loss, in_axes=-1, out_axes=-1)
        return of_entry(mean, 2.0 * log_std, mean_p, 2.0 * log_p)

    def loss(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean nats of a batch, weighted as the objective says."""
        goal = self.objective
        posterior = mean, log_std = self.posterior(params, batch)
        noise = jax.random.normal(key, (goal.num_draws, *mean.shape))
        z = mean + jnp.exp(log_std) * noise
        kl = self.kl(params, batch, posterior)
        metrics = {"kl": jnp.mean(jnp.sum(kl, axis=1))}
        if goal.bound == "importance":

            def log_weight(z: Array, frozen: bool) -> Array:
                q = jax.lax.stop_gradient(posterior) if frozen else posterior
                return self.log_weights(params, batch, z, q)

            nats = losses.importance_weighted_loss(log_weight, z, gradient=goal.gradient)
            return jnp.mean(nats), (metrics, model_state)
        data = jnp.mean(self.data_nats(params, batch, z))
        metrics |= {"reconstruction": data, "elbo": data + metrics["kl"]}
        if goal.kl == "sampled":
            label = label_of(batch, conditional=self.conditional)
            prior = self.prior_of(params, label, mean.shape[0])
            ratio = _log_entries(z, *posterior) - _log_entries(z, *prior)
            kl = jnp.mean(ratio, axis=0)
        return data + self._weighted(kl, step), (metrics, model_state)

    def _weighted(self, kl: Array, step: Step) -> Array:
        """The divergence ``[B, Z]`` as the loss has it."""
        goal = self.objective
        if goal.capacity is not None:
            reached = _share(step, goal.capacity_steps) * goal.capacity
            return jnp.mean(
                losses.capacity_loss(jnp.sum(kl, axis=1), reached, weight=goal.capacity_weight)
            )
        weight = goal.beta * _share(step, goal.warmup_steps)
        if goal.free_bits:
            return weight * losses.free_bits_loss(kl, goal.free_bits)
        return weight * jnp.mean(jnp.sum(kl, axis=1))

    def draws(
        self,
        params: Params,
        batch: Batch,
        key: PRNGKeyArray,
        num_draws: int,
        posterior: tuple[Array, Array],
    ) -> Array:
        """Negative log weights of draws of the latent of each row, ``[num_draws, B]``."""
        keys = keys_by_example(key, batch["index"])
        mean, log_std = posterior

        def one_draw(index: Array) -> Array:
            own = fold_each(keys, index)
            noise = jax.vmap(lambda k: jax.random.normal(k, (self.latent_size,)))(own)
            z = (mean + jnp.exp(log_std) * noise)[None]
            return -self.log_weights(params, batch, z, posterior)[0]

        return draws_of(one_draw, num_draws)

    def sample(self, params: Params, key: PRNGKeyArray, label: Array | None, rows: int) -> Array:
        """Parameters of the observation for latents of the prior."""
        return self.outputs(params, self.draw_prior(params, key, label, rows), label)

    def draw_prior(
        self, params: Params, key: PRNGKeyArray, label: Array | None, rows: int
    ) -> Array:
        """Latents of the prior, ``[B, Z]``."""
        mean, log_std = self.prior_of(params, label, rows)
        return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)


def _share(step: Step, steps: int) -> Array:
    """How far a rise over so many steps has come, in [0, 1]."""
    return jnp.minimum(step / steps, 1.0) if steps else jnp.ones(())


def _log_entries(z: Array, mean: Array, log_std: Array) -> Array:
    square = jnp.square((z - mean) * jnp.exp(-log_std))
    return -0.5 * (square + math.log(2.0 * math.pi)) - log_std


def _log_normal(z: Array, mean: Array, log_std: Array) -> Array:
    return jnp.sum(_log_entries(z, mean, log_std), axis=-1)
