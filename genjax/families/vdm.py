"""Variational diffusion models: a score network and a noise schedule, trained on the bound."""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    Optimizer,
    Samples,
    TrainState,
)
from genjax.families.likelihood import density_metrics
from genjax.families.minimizing import minimizing
from genjax.families.variational_diffusion import VariationalDiffusion
from genjax.losses import (
    nats_to_bits_per_dim,
)

_TIME_SAMPLINGS = ("independent", "stratified")


def vdm(
    *,
    score_net: nn.Module,
    schedule: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    num_timesteps: int = 0,
    time_sampling: Literal["stratified", "independent"] = "stratified",
    ema_decay: float = 0.9999,
    accumulate_steps: int = 1,
    eval_num_times: int = 1,
    sample_num_steps: int = 1000,
    num_trajectories: int | None = None,
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
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_times: Stratified times, each with its own noise, for each example in evaluation.
        sample_num_steps: Network calls of the ancestral sampler.
        num_trajectories: Samples whose trajectory is kept; None for 8 images (each a row of the
            picture) or 2,000 points (of which a picture takes many).
        num_frames: Frames of a trajectory.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` and its parts ``diffusion``, ``prior`` and
        ``reconstruction``, all in bits per dimension; ``log_prob`` the bound in nats.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630.
    """
    if num_trajectories is None:
        num_trajectories = 2000 if len(event_shape) == 1 else 8
    for name, value, least in [
        ("num_timesteps", num_timesteps, 0),
        ("eval_num_times", eval_num_times, 1),
        ("sample_num_steps", sample_num_steps, 1),
        ("num_trajectories", num_trajectories, 1),
        ("num_frames", num_frames, 1),
    ]:
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if time_sampling not in _TIME_SAMPLINGS:
        raise ValueError(f"time_sampling must be one of {_TIME_SAMPLINGS}, got {time_sampling!r}")
    model = VariationalDiffusion(
        score_net=score_net,
        schedule=schedule,
        event_shape=event_shape,
        num_levels=num_levels,
        num_timesteps=num_timesteps,
        time_sampling=time_sampling,
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=model.loss_and_grad,
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        nats = model.bound(state.ema, batch, key, eval_num_times)
        parts = {name: nats_to_bits_per_dim(part, model.num_dims) for name, part in nats.items()}
        return {**parts, "bits_per_dim": jax.tree.reduce(jnp.add, parts)}

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return -jax.tree.reduce(jnp.add, model.bound(state.ema, batch, key, eval_num_times))

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        return model.sample(
            state.ema,
            key,
            batch,
            num_steps=sample_num_steps,
            num_trajectories=num_trajectories,
            num_frames=num_frames,
        )

    def curves(state: TrainState) -> Mapping[str, tuple[Array, Array]]:
        times = jnp.linspace(0.0, 1.0, 201)
        return {"gamma(t)": (times, model.gamma(state.ema, times))}

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        eval_protocol={
            "bound": f"{num_timesteps} steps" if num_timesteps else "continuous time",
            "num_noise_draws": eval_num_times,
            "parameters": "moving average",
        },
        reads=("label",) if model.conditional else (),
        density_metrics=density_metrics(model.num_dims, "loss", "bits_per_dim", "reconstruction"),
        curves=curves,
    )
