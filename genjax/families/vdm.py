"""Variational diffusion models: a score network and a noise schedule, trained on the bound."""

from collections.abc import Mapping
from typing import Literal, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.devices import average, mapped_axes, own_key
from genjax.diffusion import (
    ancestral_sample,
    diffuse,
    gamma_and_slope,
    independent_times,
    stratified_times,
)
from genjax.diffusion.times import stratify
from genjax.families.base import Batch, Family, Metrics, TrainState, as_levels, spread_rows
from genjax.families.minimizing import ModelState, Params, minimizing
from genjax.losses import (
    diffusion_loss,
    discrete_diffusion_loss,
    gaussian_reconstruction_loss,
    grey_levels,
    nats_to_bits_per_dim,
    prior_loss,
    reconstruction_loss,
)

_TIME_SAMPLINGS = ("independent", "stratified")


def vdm(
    *,
    score_net: nn.Module,
    schedule: nn.Module,
    optimizer: optax.GradientTransformation,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    num_timesteps: int = 0,
    time_sampling: Literal["stratified", "independent"] = "stratified",
    ema_decay: float = 0.9999,
    accumulate_steps: int = 1,
    eval_num_times: int = 1,
    sample_num_steps: int = 1000,
    num_trajectories: int = 8,
    num_frames: int = 8,
) -> Family:
    r"""Variational diffusion model.

    The loss is the variational bound itself in bits per dimension, jointly over the parameters of
    the score network and of the schedule. In continuous time the bound does not depend on the shape
    of the schedule between its endpoints; parameters of the schedule under ``shape`` follow the
    gradient of :math:`E[L^2]`, which is that of the variance of the loss, from the same backward
    pass through the score network. It is divided by :math:`2 E[L]`, held constant. With finitely
    many steps all parameters follow the bound.

    Args:
        score_net: Module ``(z_t, gamma_t, label, deterministic=...) -> noise_hat``.
        schedule: Module that maps times to gamma.
        optimizer: Optimiser of score network and schedule together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data, which the softmax decoder scores; None
            for real-valued data, scored by a Gaussian decoder.
        num_timesteps: Steps ``T`` of the bound, or 0 for continuous time.
        time_sampling: ``"stratified"`` over the global batch, or ``"independent"``.
        ema_decay: See :func:`~genjax.families.minimizing.minimizing`.
        accumulate_steps: The same.
        eval_num_times: Stratified times, each with its own noise, for each example in evaluation.
        sample_num_steps: Network calls of the ancestral sampler.
        num_trajectories: Samples whose trajectory is kept.
        num_frames: Frames of a trajectory.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` and its parts ``diffusion``, ``prior`` and
        ``reconstruction``, all in bits per dimension.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630.
    """
    for name, value, least in [
        ("num_timesteps", num_timesteps, 0),
        ("eval_num_times", eval_num_times, 1),
        ("sample_num_steps", sample_num_steps, 1),
        ("num_frames", num_frames, 1),
    ]:
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if time_sampling not in _TIME_SAMPLINGS:
        raise ValueError(f"time_sampling must be one of {_TIME_SAMPLINGS}, got {time_sampling!r}")
    num_dims = int(np.prod(event_shape))

    def gamma(params: Params, times: Array) -> Array:
        return cast(Array, schedule.apply({"params": params["schedule"]}, times))

    def denoise(
        params: Params,
        z_t: Array,
        gamma_t: Array,
        label: Array | None,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        return cast(
            Array,
            score_net.apply(
                {"params": params["score_net"]},
                z_t,
                gamma_t,
                label,
                deterministic=dropout_key is None,
                rngs=None if dropout_key is None else {"dropout": dropout_key},
            ),
        )

    conditional = getattr(score_net, "num_classes", None) is not None

    def label_of(batch: Batch) -> Array | None:
        return batch["label"] if conditional else None

    def encode(x: Array) -> Float[Array, "B *event"]:
        return x if num_levels is None else grey_levels(x, num_levels)

    def endpoint_losses(params: Params, data: Array, noise_0: Array) -> Metrics:
        """The two terms that depend on the endpoints of the schedule only, nats ``[B]``."""
        x = encode(data)
        gamma_0, gamma_1 = gamma(params, jnp.array([0.0, 1.0]))
        z_0_rescaled = x + jnp.exp(0.5 * gamma_0) * noise_0
        if num_levels is None:
            reconstruction = gaussian_reconstruction_loss(x, z_0_rescaled, gamma_0)
        else:
            reconstruction = reconstruction_loss(data, z_0_rescaled, gamma_0, num_levels=num_levels)
        return {"prior": prior_loss(x, gamma_1), "reconstruction": reconstruction}

    def discrete_times(params: Params, times: Array) -> tuple[Array, Array]:
        """The grid's gamma_s and gamma_t for uniform times."""
        step = jnp.minimum(jnp.floor(times * num_timesteps), num_timesteps - 1)
        return gamma(params, step / num_timesteps), gamma(params, (step + 1) / num_timesteps)

    def noise_loss(
        params: Params,
        batch: Batch,
        noise: Array,
        gamma_t: Array,
        other: Array,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        """Diffusion loss, nats ``[B]``; ``other`` is gamma's slope, or gamma_s if T is finite."""
        z_t = diffuse(encode(batch["x"]), noise, gamma_t)
        noise_hat = denoise(params, z_t, gamma_t, label_of(batch), dropout_key)
        if num_timesteps:
            return discrete_diffusion_loss(
                noise, noise_hat, other, gamma_t, num_timesteps=num_timesteps
            )
        return diffusion_loss(noise, noise_hat, other)

    def at_times(params: Params, times: Array) -> tuple[Array, Array]:
        """Gamma_t and what :func:`noise_loss` takes beside it."""
        if num_timesteps:
            gamma_s, gamma_t = discrete_times(params, times)
            return gamma_t, gamma_s
        return gamma_and_slope(lambda t: gamma(params, t), times)

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        key_net, key_schedule = jax.random.split(key)
        x, times = jnp.zeros((1, *event_shape)), jnp.zeros(1)
        label = batch["label"][:1] if conditional else None
        params = {
            "score_net": score_net.init(key_net, x, times, label)["params"],
            # A fixed schedule has no parameters at all.
            "schedule": schedule.init(key_schedule, times).get("params", {}),
        }
        return params, {}

    def loss_and_grad(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[tuple[Array, Metrics], Params]:
        del model_state
        batch_size = batch["x"].shape[0]
        shape = (batch_size, *event_shape)
        key_time, *_ = jax.random.split(key, 4)
        own_key_time, key_noise_0, key_noise, key_dropout = jax.random.split(own_key(key), 4)
        if time_sampling == "stratified":
            times = stratified_times(key_time, batch_size, axis_name=mapped_axes())
        else:
            times = independent_times(own_key_time, batch_size)
        noise_0 = jax.random.normal(key_noise_0, shape)
        noise = jax.random.normal(key_noise, shape)

        def loss_fn(params: Params, gamma_t: Array, other: Array) -> tuple[Array, Metrics]:
            parts = {
                **endpoint_losses(params, batch["x"], noise_0),
                "diffusion": noise_loss(params, batch, noise, gamma_t, other, key_dropout),
            }
            bits = {name: nats_to_bits_per_dim(part, num_dims) for name, part in parts.items()}
            return jax.tree.reduce(jnp.add, {k: jnp.mean(v) for k, v in bits.items()}), bits

        # The schedule enters the diffusion loss through gamma at the sampled times alone, so one
        # backward pass to there serves both objectives of its parameters.
        (gamma_t, other), schedule_vjp = jax.vjp(lambda p: at_times(p, times), params)
        (loss, bits), (grads, *gamma_grads) = jax.value_and_grad(
            loss_fn, argnums=(0, 1, 2), has_aux=True
        )(params, gamma_t, other)

        (through_gamma,) = schedule_vjp(tuple(gamma_grads))
        grads = jax.tree.map(jnp.add, grads, through_gamma)
        mean_diffusion = average(jnp.mean(bits["diffusion"]))
        if "shape" in params["schedule"] and not num_timesteps:
            # d E[L^2] = E[2 L dL]: each example's gradient is weighted by its loss. Relative to the
            # mean loss, so that the gradient has the size of the others under a common clip.
            weight = bits["diffusion"] / mean_diffusion
            (of_square,) = schedule_vjp(tuple(weight * g for g in gamma_grads))
            grads = {
                **grads,
                "schedule": {**grads["schedule"], "shape": of_square["schedule"]["shape"]},
            }

        endpoints = gamma(params, jnp.array([0.0, 1.0]))
        metrics = {name: jnp.mean(part) for name, part in bits.items()}
        metrics |= {
            "bits_per_dim": loss,
            "diffusion_variance": jnp.mean(jnp.square(bits["diffusion"] - mean_diffusion)),
            "gamma_0": endpoints[0],
            "gamma_1": endpoints[1],
        }
        return (loss, metrics), grads

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=loss_and_grad,
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        params = state.ema
        fold = jax.vmap(jax.random.fold_in, in_axes=(0, None))
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])
        offsets = jax.vmap(jax.random.uniform)(fold(keys, 0))
        draw_noise = jax.vmap(lambda k: jax.random.normal(k, (2, *event_shape)))

        def one_draw(index: Array) -> Metrics:
            noise = draw_noise(fold(keys, index + 1))
            gamma_t, other = at_times(params, stratify(offsets, index, eval_num_times))
            return {
                **endpoint_losses(params, batch["x"], noise[:, 0]),
                "diffusion": noise_loss(params, batch, noise[:, 1], gamma_t, other),
            }

        draws = jax.lax.map(one_draw, jnp.arange(eval_num_times))
        parts = {
            name: nats_to_bits_per_dim(jnp.mean(draw, axis=0), num_dims)
            for name, draw in draws.items()
        }
        return {**parts, "bits_per_dim": jax.tree.reduce(jnp.add, parts)}

    def decode(z_0_rescaled: Array) -> Array:
        """The most likely data under the decoder."""
        if num_levels is None:
            return z_0_rescaled
        # The nearest grey level, which is where decoder_logits has its maximum.
        levels = jnp.round((z_0_rescaled + 1.0) * (0.5 * num_levels) - 0.5)
        return as_levels(levels, num_levels)

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Mapping[str, Array]:
        params, label = state.ema, label_of(batch)
        z_0_rescaled, latents = ancestral_sample(
            lambda z_t, gamma_t: denoise(params, spread_rows(z_t), gamma_t, label),
            lambda times: gamma(params, times),
            key,
            (batch["x"].shape[0], *event_shape),
            num_steps=sample_num_steps,
            num_frames=min(num_frames, sample_num_steps),
        )
        # A latent has variance near one at all times: shown in the units of the data as it is.
        return {
            "samples": decode(z_0_rescaled),
            "trajectory": decode(latents[:, :num_trajectories]),
        }

    def curves(state: TrainState) -> Mapping[str, tuple[Array, Array]]:
        times = jnp.linspace(0.0, 1.0, 201)
        return {"gamma(t)": (times, gamma(state.ema, times))}

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        eval_protocol={
            "bound": f"{num_timesteps} steps" if num_timesteps else "continuous time",
            "num_noise_draws": eval_num_times,
            "parameters": "moving average",
        },
        curves=curves,
    )
