"""Continuous flows trained by regression on the velocities of straight paths."""

import dataclasses
import functools
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion import AdaptiveODE
from genjax.families.base import (
    Batch,
    Denoising,
    Family,
    Metrics,
    Optimizer,
    Params,
    Samples,
    TrainState,
)
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.matched_flow import MatchedFlow
from genjax.families.minimizing import minimizing
from genjax.families.sampling import ADAPTIVE, Sampling, Trajectory, told_if
from genjax.families.told import with_collections
from genjax.ode import Solver, trace_for


def flow_matching(
    *,
    velocity_net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    coupling: Literal["independent", "optimal_transport"] = "independent",
    sigma_min: float = 0.0,
    method: Literal["dopri5", "tsit5", "heun", "euler"] = "dopri5",
    tolerance: float = 1e-5,
    trace: Literal["exact", "hutchinson"] | None = None,
    label_dropout: float = 0.0,
    ema_decay: float = 0.999,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
    sampling: Sampling = Sampling(num_steps=100),
) -> Family:
    r"""Conditional flow matching; likelihoods and samples through the differential equation.

    Grey levels ``k`` are dequantised with uniform noise and scaled to [-1, 1), in training too, so
    that the density is the one that is trained.

    Args:
        velocity_net: Module ``(x_t, t, label, deterministic) -> velocity``; a score network whose
            ``gamma_min`` and ``gamma_max`` are 0 and 1.
        optimizer: Its optimiser.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        coupling: Which noise goes with which example of a batch: any, or that of the exact optimal
            transport plan of the global batch (mapped over devices: of a device's rows) under
            squared distance (which ties noise to labels where there are any, so that conditional
            samples are no longer those of the path).
        sigma_min: Standard deviation of the noise that is left at the end of a path, in [0, 1).
        method: Method of the solver: see :class:`~genjax.ode.Solver`.
        tolerance: Relative and absolute tolerance of the adaptive methods.
        trace: How the divergence of the likelihood is computed: ``"exact"``, or ``"hutchinson"``
            with one draw for each draw of noise; None for exact up to 16 entries.
        label_dropout: Probability with which a row's label is left out in training, for
            classifier-free guidance.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_draws: Draws of dequantisation noise (and signs) for each example in evaluation.
        sampling: How samples are drawn: by the solver of the likelihood, which takes
            ``num_steps`` steps with the methods of fixed steps, where it names no sampler.

    Returns:
        The family. ``eval_step`` gives what a flow's does; with Hutchinson's estimate ``nats`` and
        ``bits_per_dim`` are unbiased, and there is no importance-weighted bound.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Lipman et al., Flow Matching for Generative Modeling, arXiv:2210.02747; minibatch optimal
        transport: Tong et al., arXiv:2302.00482, Pooladian et al., arXiv:2304.14772.
    """
    if not 0.0 <= sigma_min < 1.0:
        raise ValueError(f"sigma_min must be in [0, 1), got {sigma_min}")
    if coupling not in ("independent", "optimal_transport"):
        raise ValueError(f"coupling must be independent or optimal_transport, got {coupling!r}")
    if eval_num_draws < 1:
        raise ValueError(f"eval_num_draws must be at least 1, got {eval_num_draws}")
    solver = Solver(method=method, rtol=tolerance, atol=tolerance, num_steps=sampling.num_steps)
    trace = trace_for(math.prod(event_shape), trace)
    if num_levels is None and trace == "exact":
        eval_num_draws = 1
    model = MatchedFlow(
        velocity_net=velocity_net,
        event_shape=event_shape,
        num_levels=num_levels,
        coupling=coupling,
        sigma_min=sigma_min,
        solver=solver,
        trace=trace,
        label_dropout=label_dropout,
    )
    drops_labels, adaptive = label_dropout > 0, AdaptiveODE(tolerance=tolerance)
    sampling.check(
        reads=model.reads,
        optional=model.optional,
        units=model.units,
        drops_labels=drops_labels,
        process=model.process,
    )
    calls = sampling.num_steps * (2 if method == "heun" else 1)
    said = sampling.record(
        reads=model.reads,
        optional=model.optional,
        drops_labels=drops_labels,
        default=adaptive,
        ends_clean=model.process.ends_clean,
        own=f"{method}, " + (ADAPTIVE if solver.adaptive else f"{calls} network calls"),
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=jax.value_and_grad(model.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    answers = _Answers(model, sampling, adaptive, eval_num_draws)
    return Family(
        init=init,
        train_step=train_step,
        eval_step=answers.eval_step,
        sample=answers.sample,
        log_prob=answers.log_prob,
        encode=answers.encode,
        decode=answers.decode,
        denoising=answers.denoising,
        eval_protocol={
            "density": "exact" if num_levels is None else "uniform dequantisation",
            "divergence": trace,
            "solver": f"{method}, tolerance {tolerance}"
            if solver.adaptive
            else f"{method}, {sampling.num_steps} steps",
            "num_noise_draws": eval_num_draws,
            "parameters": "moving average",
        },
        # The loss in training is a squared error of velocities, and no density.
        density_metrics=density_metrics(
            model.num_dims, "bits_per_dim", "bits_per_dim_importance", in_nats=("nats",)
        ),
        **said,
    )


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What a trained velocity field says of rows and makes of noise.

    Attributes:
        model: The field.
        sampling: How samples are drawn.
        default: The sampler of edits, and where there is guidance but no sampler is named.
        num_draws: Draws of noise for each example in evaluation.
    """

    model: MatchedFlow
    sampling: Sampling
    default: AdaptiveODE
    num_draws: int

    def _known(self, state: TrainState) -> Params:
        return with_collections(state.ema, state.model_state)

    def _draws(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        told = self.model.told(batch, key)
        return self.model.flow(self._known(state)).draws(batch, told, key, self.num_draws)

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """What draws of noise say of the likelihood."""
        draws = self._draws(state, batch, key)
        return likelihood_metrics(draws, self.model.num_dims, bounds=self.model.trace == "exact")

    def log_prob(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        """The mean over draws in nats, ``[B]``."""
        return -jnp.mean(self._draws(state, batch, key), axis=0)

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Draws samples, by the solver of the likelihood where nothing else is asked for."""
        model, sampling = self.model, self.sampling
        if sampling.sampler is None and sampling.guidance is None:
            return model.sample(self._known(state), key, batch)
        told = model.told(batch, key)
        return sampling.draw(
            model.process,
            told_if(bool(model.reads), functools.partial(model.estimate, self._known(state))),
            key,
            (batch["x"].shape[0], *model.event_shape),
            sampling.told(batch, told),
            against=sampling.against(batch, told, model.optional),
            default=self.default,
            units=model.units,
            trajectory=Trajectory(),
        )

    def encode(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        """Noise that the field makes of rows."""
        told = self.model.told(batch, None)
        return self.model.flow(self._known(state)).latents(batch, told, key)

    def decode(self, state: TrainState, latents: Array, batch: Batch) -> Array:
        """Rows that the field makes of noise."""
        return self.model.flow(self._known(state)).decode(latents, self.model.told(batch, None))

    def denoising(self, state: TrainState, batch: Batch) -> Denoising:
        """The model as edits ask it."""
        model, told = self.model, self.sampling.told(batch, self.model.told(batch, None))
        return self.sampling.denoising(
            model, self._known(state), model.process, told, default=self.default
        )
