"""Variational diffusion models: a score network and a noise schedule, trained on the bound."""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from genjax.diffusion import Ancestral
from genjax.families.base import Family, Optimizer, TrainState
from genjax.families.denoising import denoising_family
from genjax.families.denoising_answers import Likelihood
from genjax.families.minimizing import minimizing
from genjax.families.sampling import Sampling, Trajectory
from genjax.families.variational_diffusion import VariationalDiffusion

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
    label_dropout: float = 0.0,
    ema_decay: float = 0.9999,
    accumulate_steps: int = 1,
    eval_num_times: int = 1,
    scored: Likelihood = Likelihood(),
    sampling: Sampling = Sampling(),
    trajectory: Trajectory = Trajectory(),
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
        label_dropout: Probability with which a row's label is left out in training, for
            classifier-free guidance.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_times: Stratified times, each with its own noise, for each example in evaluation.
        scored: How rows are scored: by the bound, the probability flow or both.
        sampling: How samples are drawn; by the ancestral sampler if it names none.
        trajectory: What is kept of the way to samples.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` and its parts ``diffusion``, ``prior`` and
        ``reconstruction``, all in bits per dimension; ``log_prob`` the bound in nats.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630.
    """
    if num_timesteps < 0:
        raise ValueError(f"num_timesteps must be at least 0, got {num_timesteps}")
    if time_sampling not in _TIME_SAMPLINGS:
        raise ValueError(f"time_sampling must be one of {_TIME_SAMPLINGS}, got {time_sampling!r}")
    model = VariationalDiffusion(
        score_net=score_net,
        schedule=schedule,
        event_shape=event_shape,
        num_levels=num_levels,
        num_timesteps=num_timesteps,
        time_sampling=time_sampling,
        label_dropout=label_dropout,
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=model.loss_and_grad,
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def curves(state: TrainState) -> Mapping[str, tuple[Array, Array]]:
        times = jnp.linspace(0.0, 1.0, 201)
        return {"gamma(t)": (times, model.gamma(state.ema, times))}

    return denoising_family(
        model,
        init=init,
        train_step=train_step,
        scored=scored,
        sampling=sampling,
        trajectory=trajectory,
        default=Ancestral(),
        bound=f"{num_timesteps} steps" if num_timesteps else "continuous time",
        end="time 0",
        eval_num_times=eval_num_times,
        densities=("loss",),
        curves=curves,
    )
