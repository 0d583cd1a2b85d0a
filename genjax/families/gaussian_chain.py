"""A network that goes back through a chain of Gaussian steps: its loss, its bound, its sampler."""

import dataclasses
import functools
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key
from genjax.diffusion import Chain, ChainSampler, ChainSteps, Estimate, chain_steps, diffuse
from genjax.diffusion.times import stratify
from genjax.families.base import Batch, Metrics, ModelState, Params, Step, init_network
from genjax.families.chain_objective import ChainObjective, step_of
from genjax.families.draws import check_label_dropout, fold_each, keys_by_example
from genjax.families.levels import Bins, Ends, Reals, Units
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
    discretized_gaussian_loss,
    gaussian_kl_loss,
    gaussian_loss,
    gaussian_prior_loss,
    interpolated_log_variance,
    nats_to_bits_per_dim,
)
from genjax.losses.arrays import per_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianChain:
    """A network under a discrete chain, as functions of parameters and rows.

    Attributes:
        net: Module ``(z_t, t, label, deterministic=...) -> output``, of times in (0, 1]; of a
            learned variance the output's last axis is twice as long.
        process: The chain.
        objective: What it estimates, which variance its steps have and how it is trained.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
    """

    net: nn.Module
    process: Chain
    objective: ChainObjective
    event_shape: tuple[int, ...]
    num_levels: int | None

    def __post_init__(self) -> None:
        check_label_dropout(self.objective.label_dropout, conditional=bool(self.optional))
        if self.objective.clip_data and self.num_levels is None:
            raise ValueError(
                "clip_data is for images of grey levels: real-valued data has no interval; leave "
                "it out"
            )

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def units(self) -> Units:
        """Data to the units of the process, and back."""
        return Reals() if self.num_levels is None else Ends(self.num_levels)

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
    def clips(self) -> bool:
        """Whether evaluation and the family's own sampler clip estimates of data."""
        asked = self.objective.clip_data
        return self.num_levels is not None if asked is None else asked

    @property
    def steps(self) -> ChainSteps:
        """The coefficients of all steps."""
        return chain_steps(self.process, first_variance=self.objective.first_variance)

    def process_of(self, params: Params) -> Chain:
        """The chain, which no parameters change."""
        return self.process

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of the network, and its other collections."""
        told = first_told(self.net, batch)
        z, times = jnp.zeros((1, *self.event_shape)), jnp.ones(1)
        params, state = init_network(self.net, key, z, times, told)
        out = jax.eval_shape(
            lambda p: self.net.apply({"params": p, **state}, z, times, told), params
        )
        self.objective.check_output(out.shape[1:], self.event_shape)
        return {"net": params}, {"net": state} if state else {}

    def output(
        self,
        params: Params,
        z: Array,
        times: Array,
        told: Told,
        dropout_key: PRNGKeyArray | None = None,
    ) -> tuple[Array, Array | None]:
        """What the network says of latents at times ``[B]``, and where it has the variance."""
        # Dropout acts where there is a key for it: in training only.
        out = self.net.apply(
            variables_of(params, "net"),
            z,
            times,
            heard(told),
            deterministic=dropout_key is None,
            rngs=None if dropout_key is None else {"dropout": dropout_key},
        )
        if not self.objective.learned:
            return cast(Array, out), None
        estimated, share = jnp.split(cast(Array, out), 2, axis=-1)
        return estimated, share

    def estimate_and_share(
        self, params: Params, z: Array, t: Array, told: Told
    ) -> tuple[Estimate, Array | None]:
        """Data and noise in latents at one time, and where the variance of the step is."""
        out, share = self.output(params, z, jnp.full(z.shape[:1], t), told)
        kind = self.objective.kind(self.steps.between(t), z)
        return kind.estimate(out, z, *self.process.scales(t)), share

    def estimate(self, params: Params, z: Array, t: Array, told: Told) -> Estimate:
        """What samplers ask: data and noise in latents at one time."""
        return self.estimate_and_share(params, z, t, told)[0]

    def log_variance(self, step: ChainSteps, is_first: Array, share: Array | None) -> Array:
        """Log-variances of the model's steps, ``[B]`` or, learned, ``[B, *event]``."""
        if share is not None:
            return interpolated_log_variance(share, step.log_small, step.log_large)
        if self.objective.variance == "fixed_small":
            return step.log_small
        return jnp.where(is_first, step.log_small, step.log_large)

    def decoder_loss(self, data: Array, mean: Array, log_variance: Array) -> Array:
        """The last term of the bound, nats ``[B]``: the step to data as its density."""
        if self.num_levels is None:
            return gaussian_loss(data, mean, log_variance)
        return discretized_gaussian_loss(data, mean, 0.5 * log_variance, num_levels=self.num_levels)

    def step_loss(self, x: Array, data_hat: Array, step: ChainSteps, log_variance: Array) -> Array:
        """Divergence of the model's step from the posterior given ``x``, nats ``[B]``."""
        # Both means have the same share of the latent, which their difference does not see.
        of_data = per_row(step.of_data, x)
        return gaussian_kl_loss(of_data * x, step.log_small, of_data * data_hat, log_variance)

    def prior_loss(self, x: Array) -> Array:
        """The first term of the bound, which no parameters change, nats ``[B]``."""
        last = self.steps.at(jnp.asarray(-1))
        return gaussian_prior_loss(x, last.alpha, last.sigma)

    def loss(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """The squared error, the bound in bits per dimension or both, a mean over rows."""
        del step
        # Stratified steps are those of the global batch, so their key is the same on all devices.
        key_time, *_ = jax.random.split(key, 4)
        _, key_noise, key_label, key_dropout = jax.random.split(own_key(key), 4)
        x = self.units.encode(batch["x"])
        index = self.objective.draw_steps(key_time, x.shape[0], self.process.num_timesteps)
        noise = jax.random.normal(key_noise, x.shape)
        told = self.told(batch, key_label, training=True)
        told = drop_told(key_label, told, self.objective.label_dropout)
        at = self.steps.at(index)
        z = diffuse(x, noise, at.alpha, at.sigma)
        known = with_collections(params, model_state)
        out, share = self.output(known, z, at.times, told, key_dropout)
        kind, scales = self.objective.kind(at, z), (per_row(at.alpha, z), per_row(at.sigma, z))
        error = jnp.mean(denoising_loss(out, kind.target(x, noise, *scales)))
        metrics = {"error": error}
        if self.objective.loss == "simple":
            return error, (metrics, model_state)
        hybrid = self.objective.loss == "hybrid"
        # In the hybrid loss the bound moves the variance alone.
        data_hat = kind.estimate(jax.lax.stop_gradient(out) if hybrid else out, z, *scales).data
        log_variance = self.log_variance(at, index == 0, share)
        # One step of T stands for all of them.
        term = self.process.num_timesteps * jnp.where(
            index == 0,
            self.decoder_loss(batch["x"], data_hat, log_variance),
            self.step_loss(x, data_hat, at, log_variance),
        )
        bits = jnp.mean(nats_to_bits_per_dim(self.prior_loss(x) + term, self.num_dims))
        loss = error + self.objective.bound_weight * bits if hybrid else bits
        return loss, ({**metrics, "bits_per_dim": bits}, model_state)

    def bound(self, params: Params, batch: Batch, key: PRNGKeyArray, num_times: int) -> Metrics:
        """Parts of the bound of each example in nats, ``[B]``.

        The step to data is always asked. With ``num_times`` at least T all other steps are, each
        once; else so many of them, stratified, stand for all.
        """
        keys = keys_by_example(key, batch["index"])
        told = self.told(batch, key)
        x, steps, others = self.units.encode(batch["x"]), self.steps, self.process.num_timesteps - 1
        draw_noise = jax.vmap(lambda k: jax.random.normal(k, self.event_shape))

        def asked(index: Array, number: Array | int) -> tuple[ChainSteps, Array, Array]:
            at = steps.at(index)
            z = diffuse(x, draw_noise(fold_each(keys, number)), at.alpha, at.sigma)
            out, share = self.output(params, z, at.times, told)
            scales = per_row(at.alpha, z), per_row(at.sigma, z)
            data_hat = self.objective.kind(at, z).estimate(out, z, *scales).data
            if self.clips:
                data_hat = jnp.clip(data_hat, -1.0, 1.0)
            return at, data_hat, self.log_variance(at, index == 0, share)

        _, data_hat, log_variance = asked(jnp.zeros(x.shape[0], jnp.int32), 1)
        parts = {
            "prior": self.prior_loss(x),
            "reconstruction": self.decoder_loss(batch["x"], data_hat, log_variance),
        }
        # Each example's steps are spread evenly, from an offset of its own.
        offsets = jax.vmap(jax.random.uniform)(fold_each(keys, 0))
        once = num_times > others

        def one_step(number: Array) -> Array:
            if once:
                index = jnp.full(x.shape[0], number + 1)
            else:
                index = 1 + step_of(stratify(offsets, number, num_times), others)
            at, data_hat, log_variance = asked(index, number + 2)
            return self.step_loss(x, data_hat, at, log_variance)

        if not others:
            return {**parts, "diffusion": jnp.zeros_like(parts["prior"])}
        terms = jax.lax.map(one_step, jnp.arange(others if once else num_times))
        return {**parts, "diffusion": others * jnp.mean(terms, axis=0)}

    def sampler(self, params: Params, told: Told, *, guided: bool) -> ChainSampler:
        """The family's own sampler."""
        learned = None
        if self.objective.learned:

            def learned(z: Array, t: Array) -> tuple[Estimate, Array]:
                estimate, share = self.estimate_and_share(params, z, t, told)
                return estimate, cast(Array, share)

        return ChainSampler(
            chain=self.process,
            variance=self.objective.variance,
            clip_data=self.clips,
            learned=learned,
            guided=guided,
        )

    def flow(self, params: Params, flow: Flow, num_steps: int) -> ProbabilityFlow:
        """The probability flow of the chain in continuous time, from its first step to noise."""
        units: Units = Reals()
        if self.num_levels is not None:
            # The bins of levels from -1 to 1 reach beyond both by half a bin.
            reach = 1.0 + 1.0 / (self.num_levels - 1)
            units = Bins(self.num_levels, -reach, reach)
        return denoising_flow(
            self.process,
            functools.partial(self.estimate, params),
            units=units,
            event_shape=self.event_shape,
            flow=flow,
            num_steps=num_steps,
        )
