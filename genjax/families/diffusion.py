"""Denoising models of any process, prediction and weighting: score SDEs, EDM, rectified flow."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genjax.diffusion import (
    Ancestral,
    Process,
    Straight,
    VarianceExploding,
    VariancePreserving,
)
from genjax.families.averages import Average
from genjax.families.base import Family, Optimizer
from genjax.families.denoiser import DenoisingNetwork
from genjax.families.denoising import denoising_family
from genjax.families.denoising_answers import Likelihood
from genjax.families.minimizing import minimizing
from genjax.families.objective import Kind, Objective, TimeDensity, Weight
from genjax.families.sampling import Sampling, Trajectory


@dataclasses.dataclass(frozen=True, kw_only=True)
class EDMObjective(Objective):
    """EDM's: the preconditioned output, with unit weight, at log-normal noise."""

    prediction: Kind = "edm"
    weighting: Weight = "edm"
    times: TimeDensity = "log_normal"
    times_mean: float = -1.2
    times_std: float = 1.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreObjective(Objective):
    """That of denoising score matching: the error of the noise, each time alike.

    ``weighting="bound"`` is likelihood weighting.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class RectifiedFlowObjective(Objective):
    """That of straight paths: the error of their velocity."""

    prediction: Kind = "velocity"
    weighting: Weight = "velocity"


def diffusion(
    *,
    net: nn.Module,
    process: Process,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    objective: Objective = Objective(),
    scored: Likelihood = Likelihood(),
    average: Average = Average(),
    accumulate_steps: int = 1,
    eval_num_times: int = 1,
    data_std: float = 1.0,
    sampling: Sampling = Sampling(),
    trajectory: Trajectory = Trajectory(),
) -> Family:
    r"""Denoising model: a network estimates the data in latents of a Gaussian process.

    The process says how much noise there is at which time, the objective what the network
    estimates, at which times it is trained and how much its error counts. The models of the
    literature are choices of these: :func:`score_sde`, :func:`edm` and :func:`rectified_flow` are
    aliases that make them, and the exact discrete chain is a family of its own,
    :func:`~genjax.families.ddpm`.

    Args:
        net: Module ``(z_t, t, label, deterministic=...) -> output``, of times in [0, 1].
        process: The process.
        optimizer: Optimiser of the network.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data, which a softmax decoder scores in the
            bound; None for real-valued data, scored by a Gaussian decoder.
        objective: What the network estimates, when, and how much its error counts.
        scored: How rows are scored: by the bound in continuous time, by the probability flow, for
            which grey levels are dequantised in training, too, or both.
        average: The moving average of the parameters, which evaluation and sampling read.
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_times: Stratified times, each with its own noise, for each example in evaluation.
        data_std: Standard deviation of the data in the units of the model, where the objective
            leaves ``sigma_data`` open.
        sampling: How samples are drawn; by the ancestral sampler if it names none.
        trajectory: What is kept of the way to samples.

    Returns:
        The family. ``loss`` is the weighted squared error, a mean over entries; ``error`` that of
        the network's output without weight.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Kingma and Gao, Understanding Diffusion Objectives as the ELBO, arXiv:2303.00848.
    """
    model = DenoisingNetwork(
        net=net,
        process=process,
        objective=objective,
        event_shape=event_shape,
        num_levels=num_levels,
        sigma_data=data_std if objective.sigma_data is None else objective.sigma_data,
        dequantize=scored.likelihood == "ode",
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=jax.value_and_grad(model.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=average.decay,
        accumulate_steps=accumulate_steps,
    )
    scales = process.scales(jnp.array(process.earliest))
    end = f"sigma/alpha {float(scales.sigma / scales.alpha):.3g}"
    return denoising_family(
        model,
        init=init,
        train_step=train_step,
        scored=scored,
        sampling=sampling,
        trajectory=trajectory,
        default=Ancestral(),
        bound=f"continuous time from {end}",
        end=end,
        eval_num_times=eval_num_times,
    )


def edm(
    *,
    process: Process = VarianceExploding(),
    objective: Objective = EDMObjective(),
    **kwargs: Any,
) -> Family:
    """EDM: :func:`diffusion` with the choices of Karras et al.

    Args:
        process: Noise from 0.002 to 80, the range that samples are drawn over.
        objective: The preconditioned output, with unit weight, at log-normal noise.
        **kwargs: As of :func:`diffusion`.

    Returns:
        The family.

    References:
        Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models,
        arXiv:2206.00364, table 1.
    """
    return diffusion(process=process, objective=objective, **kwargs)


def score_sde(
    *,
    process: Process = VariancePreserving(),
    objective: Objective = ScoreObjective(),
    **kwargs: Any,
) -> Family:
    """Score-based model: :func:`diffusion` by denoising score matching.

    Args:
        process: The variance-preserving one; ``sub_vp`` and ``ve`` are the others of the paper.
        objective: The error of the noise, which is that of the score times its scale.
        **kwargs: As of :func:`diffusion`.

    Returns:
        The family.

    References:
        Song et al., Score-Based Generative Modeling through Stochastic Differential Equations,
        arXiv:2011.13456, eq. 7; likelihood weighting: arXiv:2101.09258, eq. 7.
    """
    return diffusion(process=process, objective=objective, **kwargs)


def rectified_flow(
    *,
    process: Process = Straight(),
    objective: Objective = RectifiedFlowObjective(),
    **kwargs: Any,
) -> Family:
    """Rectified flow as a denoising model: :func:`diffusion` with straight paths.

    It is :func:`~genjax.families.flow_matching` with independent noise, as a row of the same table
    as the other processes: with their bound, their times and their weightings.

    Args:
        process: Straight paths.
        objective: The error of the velocity, at uniform times.
        **kwargs: As of :func:`diffusion`.

    Returns:
        The family.

    References:
        Liu et al., Flow Straight and Fast, arXiv:2209.03003, eq. 1.
    """
    return diffusion(process=process, objective=objective, **kwargs)
