"""The bound of a variational diffusion model, its gradients and its sampler."""

import dataclasses
import functools
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import average, mapped_axes, own_key
from genjax.diffusion import (
    Estimate,
    GammaProcess,
    Noise,
    diffuse,
    gamma_and_slope,
    independent_times,
    of_gamma,
    stratified_times,
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
    diffusion_loss,
    discrete_diffusion_loss,
    gaussian_decoder_loss,
    nats_to_bits_per_dim,
    prior_loss,
    reconstruction_loss,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariationalDiffusion:
    """The bound of a VDM and its sampler, as functions of parameters and rows.

    Attributes:
        score_net: Module ``(z_t, gamma_t, label, deterministic=...) -> noise_hat``.
        schedule: Module that maps times to gamma.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        num_timesteps: Steps ``T`` of the bound, or 0 for continuous time.
        time_sampling: ``"stratified"`` over the global batch, or ``"independent"``.
        label_dropout: Probability with which a row's label is left out in training.
    """

    score_net: nn.Module
    schedule: nn.Module
    event_shape: tuple[int, ...]
    num_levels: int | None
    num_timesteps: int = 0
    time_sampling: str = "stratified"
    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_label_dropout(self.label_dropout, conditional=bool(self.optional))

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
        """Features of a batch that the score network is told."""
        return reads_of(self.score_net)

    @property
    def optional(self) -> tuple[str, ...]:
        """Those of them that the score network can do without."""
        return optional_of(self.score_net)

    def told(self, batch: Batch, key: PRNGKeyArray | None, *, training: bool = False) -> Told:
        """What the score network is told of a batch: see :func:`~genjax.families.told.tell`."""
        return tell(self.score_net, batch, key, training=training)

    @property
    def drops_labels(self) -> bool:
        """Whether the network is trained without being told anything, too."""
        return self.label_dropout > 0

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of score network and schedule."""
        key_net, key_schedule = jax.random.split(key)
        x, times = jnp.zeros((1, *self.event_shape)), jnp.zeros(1)
        told = first_told(self.score_net, batch)
        score_net, state = init_network(self.score_net, key_net, x, times, told)
        params = {
            "score_net": score_net,
            # A fixed schedule has no parameters at all.
            "schedule": self.schedule.init(key_schedule, times).get("params", {}),
        }
        return params, {"score_net": state} if state else {}

    def gamma(self, params: Params, times: Array) -> Array:
        """Minus the log signal-to-noise ratio at times in [0, 1]."""
        return cast(Array, self.schedule.apply({"params": params["schedule"]}, times))

    def denoise(
        self,
        params: Params,
        z_t: Array,
        gamma_t: Array,
        told: Told,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        """The score network's estimate of the noise in ``z_t``."""
        # Dropout acts where there is a key for it: in training only.
        noise_hat = self.score_net.apply(
            variables_of(params, "score_net"),
            z_t,
            gamma_t,
            heard(told),
            deterministic=dropout_key is None,
            rngs=None if dropout_key is None else {"dropout": dropout_key},
        )
        return cast(Array, noise_hat)

    def endpoint_losses(self, params: Params, data: Array, noise_0: Array) -> Metrics:
        """The two terms that depend on the endpoints of the schedule only, nats ``[B]``."""
        x = self.units.encode(data)
        gamma_0, gamma_1 = self.gamma(params, jnp.array([0.0, 1.0]))
        if self.num_levels is None:
            # Not as a difference: small noise beside large data would round to nothing, and a
            # learned gamma_0 would go where it does.
            reconstruction = gaussian_decoder_loss(noise_0, gamma_0)
        else:
            # z_0 over alpha_0: the decoder sees the data and noise of scale sigma_0 / alpha_0.
            z_0_rescaled = x + jnp.exp(0.5 * gamma_0) * noise_0
            reconstruction = reconstruction_loss(
                data, z_0_rescaled, gamma_0, num_levels=self.num_levels
            )
        # KL(q(z_1 | x) || N(0, I)) and -E log p(x | z_0), which the diffusion loss comes between.
        return {"prior": prior_loss(x, gamma_1), "reconstruction": reconstruction}

    def at_times(self, params: Params, times: Array) -> tuple[Array, Array]:
        """Gamma_t, and gamma's slope in continuous time or gamma_s on the grid of T steps."""
        if not self.num_timesteps:
            return gamma_and_slope(lambda t: self.gamma(params, t), times)
        # Of T equal intervals the one a time falls into; rounding may bring a time to 1.
        last = self.num_timesteps - 1
        step = jnp.minimum(jnp.floor(times * self.num_timesteps), last)
        gamma_s = self.gamma(params, step / self.num_timesteps)
        return self.gamma(params, (step + 1) / self.num_timesteps), gamma_s

    def noise_loss(
        self,
        params: Params,
        batch: Batch,
        noise: Array,
        gamma_t: Array,
        other: Array,
        told: Told = None,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        """Diffusion loss for given noise, nats ``[B]``; ``other`` as :meth:`at_times` gives it."""
        z_t = diffuse(self.units.encode(batch["x"]), noise, *of_gamma(gamma_t))
        noise_hat = self.denoise(params, z_t, gamma_t, told, dropout_key)
        if self.num_timesteps:
            return discrete_diffusion_loss(
                noise, noise_hat, other, gamma_t, num_timesteps=self.num_timesteps
            )
        return diffusion_loss(noise, noise_hat, other)

    def loss_and_grad(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[tuple[Array, tuple[Metrics, ModelState]], Params]:
        """The bound in bits/dim and its gradients: see :func:`vdm` for what follows which."""
        del step
        batch_size = batch["x"].shape[0]
        shape = (batch_size, *self.event_shape)
        # Stratified times are those of the global batch, so their key is the same on all devices.
        key_time, *_ = jax.random.split(key, 4)
        own_key_time, key_noise_0, key_noise, key_dropout = jax.random.split(own_key(key), 4)
        if self.time_sampling == "stratified":
            times = stratified_times(key_time, batch_size, axis_name=mapped_axes())
        else:
            times = independent_times(own_key_time, batch_size)
        noise_0 = jax.random.normal(key_noise_0, shape)
        noise = jax.random.normal(key_noise, shape)
        key_told = jax.random.fold_in(key_dropout, 1)
        told = drop_told(key_told, self.told(batch, key_told, training=True), self.label_dropout)

        def loss_fn(params: Params, gamma_t: Array, other: Array) -> tuple[Array, Metrics]:
            parts = {
                **self.endpoint_losses(params, batch["x"], noise_0),
                "diffusion": self.noise_loss(
                    with_collections(params, model_state),
                    batch,
                    noise,
                    gamma_t,
                    other,
                    told,
                    key_dropout,
                ),
            }
            bits = {k: nats_to_bits_per_dim(part, self.num_dims) for k, part in parts.items()}
            return jax.tree.reduce(jnp.add, {k: jnp.mean(v) for k, v in bits.items()}), bits

        # The schedule enters the diffusion loss through gamma at the sampled times alone, so one
        # backward pass to there serves both objectives of its parameters.
        (gamma_t, other), schedule_vjp = jax.vjp(lambda p: self.at_times(p, times), params)
        (loss, bits), (grads, *gamma_grads) = jax.value_and_grad(
            loss_fn, argnums=(0, 1, 2), has_aux=True
        )(params, gamma_t, other)

        (through_gamma,) = schedule_vjp(tuple(gamma_grads))
        grads = jax.tree.map(jnp.add, grads, through_gamma)
        mean_diffusion = average(jnp.mean(bits["diffusion"]))
        if "shape" in params["schedule"] and not self.num_timesteps:
            # d E[L^2] = E[2 L dL]: each example's gradient is weighted by its loss. Relative to the
            # mean loss, so that the gradient has the size of the others under a common clip.
            weight = bits["diffusion"] / mean_diffusion
            (of_square,) = schedule_vjp(tuple(weight * g for g in gamma_grads))
            grads = {
                **grads,
                "schedule": {**grads["schedule"], "shape": of_square["schedule"]["shape"]},
            }

        endpoints = self.gamma(params, jnp.array([0.0, 1.0]))
        metrics = {name: jnp.mean(part) for name, part in bits.items()}
        metrics |= {
            "bits_per_dim": loss,
            "diffusion_variance": jnp.mean(jnp.square(bits["diffusion"] - mean_diffusion)),
            "gamma_0": endpoints[0],
            "gamma_1": endpoints[1],
        }
        return (loss, (metrics, model_state)), grads

    def bound(self, params: Params, batch: Batch, key: PRNGKeyArray, num_times: int) -> Metrics:
        """Parts of the bound of each example in nats, ``[B]``, from several stratified times."""
        keys, told = keys_by_example(key, batch["index"]), self.told(batch, key)
        # Each example's times are spread evenly over [0, 1), from an offset of its own.
        offsets = jax.vmap(jax.random.uniform)(fold_each(keys, 0))
        draw_noise = jax.vmap(lambda k: jax.random.normal(k, (2, *self.event_shape)))

        def one_draw(index: Array) -> Metrics:
            noise = draw_noise(fold_each(keys, index + 1))
            gamma_t, other = self.at_times(params, stratify(offsets, index, num_times))
            return {
                **self.endpoint_losses(params, batch["x"], noise[:, 0]),
                "diffusion": self.noise_loss(params, batch, noise[:, 1], gamma_t, other, told),
            }

        draws = jax.lax.map(one_draw, jnp.arange(num_times))
        return {name: jnp.mean(draw, axis=0) for name, draw in draws.items()}

    def process_of(self, params: Params) -> GammaProcess:
        """The process of the schedule."""
        return GammaProcess(lambda times: self.gamma(params, times))

    def estimate(self, params: Params, z_t: Array, t: Array, told: Told) -> Estimate:
        """What samplers ask: data and noise in latents at one time."""
        gamma_t = self.gamma(params, t)
        noise_hat = self.denoise(params, z_t, jnp.full(z_t.shape[:1], gamma_t), told)
        return Noise().estimate(noise_hat, z_t, *of_gamma(gamma_t))

    def flow(self, params: Params, flow: Flow, num_steps: int) -> ProbabilityFlow:
        """The probability flow, from data at time 0 to noise at time 1."""
        levels = self.num_levels
        return denoising_flow(
            self.process_of(params),
            functools.partial(self.estimate, params),
            units=Reals() if levels is None else Bins(levels, -1.0, 1.0),
            event_shape=self.event_shape,
            flow=flow,
            num_steps=num_steps,
        )
