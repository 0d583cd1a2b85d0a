"""A network that denoises latents of a process: its loss, its bound and its probability flow."""

import dataclasses
import functools
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key
from genjax.diffusion import (
    Estimate,
    Prediction,
    Process,
    diffuse,
    gamma_and_slope_of,
    input_scale,
    latest,
    time_of,
)
from genjax.diffusion.times import stratify
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    Step,
    init_network,
)
from genjax.families.draws import check_label_dropout, fold_each, keys_by_example
from genjax.families.levels import Bins, Centres, Reals, Units
from genjax.families.objective import Objective
from genjax.families.probability_flow import Flow, ProbabilityFlow, denoising_flow
from genjax.families.told import (
    Told,
    drop_told,
    first_told,
    heard,
    optional_of,
    reads_of,
    tell,
    variables_of,
    with_collections,
)
from genjax.losses import (
    denoising_loss,
    diffusion_loss,
    gaussian_decoder_loss,
    gaussian_prior_loss,
    reconstruction_loss,
)
from genjax.losses.arrays import per_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoisingNetwork:
    """A network under a process of fixed scales, as functions of parameters and rows.

    Attributes:
        net: Module ``(z_t, t, told, deterministic=...) -> output``, told class ids of labels, or
            what :func:`~genjax.families.told.told_of` says.
        process: The process.
        objective: What it estimates, when, and how much its error counts.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        sigma_data: Standard deviation of the data in the units of the model.
        dequantize: Whether grey levels are spread over their bins in training by uniform noise, as
            is fitting where the probability flow's density of such points is the likelihood.
    """

    net: nn.Module
    process: Process
    objective: Objective
    event_shape: tuple[int, ...]
    num_levels: int | None
    sigma_data: float
    dequantize: bool = False

    def __post_init__(self) -> None:
        check_label_dropout(self.objective.label_dropout, conditional=bool(self.optional))

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def units(self) -> Units:
        """Data to the units of the process, and back."""
        return Reals() if self.num_levels is None else Centres(self.num_levels)

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told."""
        return reads_of(self.net)

    @property
    def optional(self) -> tuple[str, ...]:
        """Those of them that the network can do without."""
        return optional_of(self.net)

    def told(self, batch: Batch, key: PRNGKeyArray | None, *, training: bool = False) -> Told:
        """What the network is told of a batch: see :func:`~genjax.families.told.tell`."""
        return tell(self.net, batch, key, training=training)

    @property
    def drops_labels(self) -> bool:
        """Whether the network is trained without being told anything, too."""
        return self.objective.label_dropout > 0

    @property
    def kind(self) -> Prediction:
        """What the network estimates."""
        return self.objective.kind(self.sigma_data)

    def process_of(self, params: Params) -> Process:
        """The process, which no parameters change."""
        return self.process

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of the network, and its other collections."""
        told = first_told(self.net, batch)
        z, times = jnp.zeros((1, *self.event_shape)), jnp.ones(1)
        params, state = init_network(self.net, key, z, times, told)
        out = jax.eval_shape(
            lambda params: self.net.apply({"params": params, **state}, z, times, told), params
        )
        if out.shape != z.shape:
            raise ValueError(
                f"the network must give one number for each entry of a latent {z.shape[1:]}, got "
                f"{out.shape[1:]}; leave model.out_channels out"
            )
        return {"net": params}, {"net": state} if state else {}

    def output(
        self,
        params: Params,
        z: Array,
        times: Array,
        told: Told,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        """What the network says of latents at times ``[B]``."""
        if self.objective.prediction == "edm" or self.process.prior_std != 1.0:
            # Latents of unit variance, where the process or the preconditioning does not give them.
            scale = input_scale(self.sigma_data, *self.process.scales(times))
            z = z * per_row(scale, z)
        # Dropout acts where there is a key for it: in training only.
        out = self.net.apply(
            variables_of(params, "net"),
            z,
            times,
            heard(told),
            deterministic=dropout_key is None,
            rngs=None if dropout_key is None else {"dropout": dropout_key},
        )
        return cast(Array, out)

    def estimate(self, params: Params, z: Array, t: Array, told: Told) -> Estimate:
        """What samplers ask: data and noise in latents at one time."""
        out = self.output(params, z, jnp.full(z.shape[:1], t), told)
        return self.kind.estimate(out, z, *self.process.scales(t))

    def loss(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """The weighted squared error, a mean over entries and rows."""
        del step
        # Stratified times are those of the global batch, so their key is the same on all devices.
        key_time, *_ = jax.random.split(key, 4)
        _, key_noise, key_label, key_dropout = jax.random.split(own_key(key), 4)
        x = self.training_points(batch["x"], jax.random.fold_in(key_noise, 1))
        times = self.objective.draw_times(key_time, x.shape[0], self.process)
        noise = jax.random.normal(key_noise, x.shape)
        told = self.told(batch, key_label, training=True)
        told = drop_told(key_label, told, self.objective.label_dropout)
        alpha, sigma = self.process.scales(times)
        z = diffuse(x, noise, alpha, sigma)
        known = with_collections(params, model_state)
        out = self.output(known, z, times, told, key_dropout)
        kind = self.kind
        target = kind.target(x, noise, per_row(alpha, x), per_row(sigma, x))
        weighting = self.objective.weight(self.sigma_data)
        log_weight = weighting.log_weight(*gamma_and_slope_of(self.process, times))
        log_weight = log_weight + kind.log_noise_error(alpha, sigma)
        error = denoising_loss(out, target)
        loss = jnp.mean(jnp.exp(log_weight) * error)
        return loss, ({"error": jnp.mean(error)}, model_state)

    def training_points(self, data: Array, key: PRNGKeyArray) -> Array:
        """Data in the units of the model, as the network is trained on it."""
        if self.num_levels is None or not self.dequantize:
            return self.units.encode(data)
        spread = jax.random.uniform(key, data.shape)
        return Bins(self.num_levels, -1.0, 1.0).encode(data, spread)

    def ends(self) -> Array:
        """The times between which the bound is taken, ``[2]``."""
        return jnp.stack([jnp.array(self.process.earliest), latest(self.process)])

    def endpoint_losses(self, data: Array, noise_0: Array) -> Metrics:
        """The two terms of the bound without a network, nats ``[B]``."""
        x = self.units.encode(data)
        ends = self.process.scales(self.ends())
        gamma_0 = ends.gamma[0]
        if self.num_levels is None:
            # Not as a difference: small noise beside large data would round to nothing.
            reconstruction = gaussian_decoder_loss(noise_0, gamma_0)
        else:
            noisy = x + jnp.exp(0.5 * gamma_0) * noise_0
            reconstruction = reconstruction_loss(data, noisy, gamma_0, num_levels=self.num_levels)
        prior = gaussian_prior_loss(
            x, ends.alpha[1], ends.sigma[1], prior_std=self.process.prior_std
        )
        return {"prior": prior, "reconstruction": reconstruction}

    def bound(self, params: Params, batch: Batch, key: PRNGKeyArray, num_times: int) -> Metrics:
        """Parts of the continuous-time bound of each example in nats, ``[B]``."""
        keys = keys_by_example(key, batch["index"])
        # Each example's times are spread evenly in gamma, whose slope is the weight of the loss,
        # from an offset of its own.
        offsets = jax.vmap(jax.random.uniform)(fold_each(keys, 0))
        draw_noise = jax.vmap(lambda k: jax.random.normal(k, (2, *self.event_shape)))
        told = self.told(batch, key)
        x, kind = self.units.encode(batch["x"]), self.kind
        first, last = self.process.scales(self.ends()).gamma

        def one_draw(index: Array) -> Metrics:
            noise = draw_noise(fold_each(keys, index + 1))
            gamma = first + (last - first) * stratify(offsets, index, num_times)
            times = time_of(self.process, -0.5 * gamma)
            alpha, sigma = self.process.scales(times)
            z = diffuse(x, noise[:, 1], alpha, sigma)
            out = self.output(params, z, times, told)
            noise_hat = kind.estimate(out, z, per_row(alpha, z), per_row(sigma, z)).noise
            loss = diffusion_loss(noise[:, 1], noise_hat, last - first)
            return {**self.endpoint_losses(batch["x"], noise[:, 0]), "diffusion": loss}

        draws = jax.lax.map(one_draw, jnp.arange(num_times))
        return {name: jnp.mean(draw, axis=0) for name, draw in draws.items()}

    def flow(self, params: Params, flow: Flow, num_steps: int) -> ProbabilityFlow:
        """The probability flow, from data at the earliest time to noise at time 1."""
        levels = self.num_levels
        return denoising_flow(
            self.process,
            functools.partial(self.estimate, params),
            units=Reals() if levels is None else Bins(levels, -1.0, 1.0),
            event_shape=self.event_shape,
            flow=flow,
            num_steps=num_steps,
        )
