"""The record of every family whose model estimates data and noise in latents of a process."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion import Ancestral, Process, Sampler
from genjax.families.base import Batch, Family, Metrics, Params, TrainState
from genjax.families.denoising_answers import Answers, DenoisingModel, Likelihood
from genjax.families.likelihood import density_metrics
from genjax.families.sampling import Sampling, Trajectory
from genjax.families.told import Told


def denoising_family(
    model: DenoisingModel,
    *,
    init: Callable[[PRNGKeyArray, Batch], TrainState],
    train_step: Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]],
    scored: Likelihood,
    sampling: Sampling,
    trajectory: Trajectory,
    default: Sampler | Callable[[Params, Told], Sampler],
    bound: str,
    end: str,
    eval_num_times: int,
    densities: tuple[str, ...] = (),
    curves: Callable[[TrainState], Mapping[str, tuple[Array, Array]]] | None = None,
) -> Family:
    """Makes the record of a family from its model and how it is trained.

    Args:
        model: The model.
        init: Makes the state before the first step.
        train_step: The training step.
        scored: How rows are scored.
        sampling: How samples are drawn.
        trajectory: What is kept of the way to samples.
        default: The sampler where the ``sample`` section names none, or what makes it of the
            parameters and what is told.
        bound: What is to be said of the bound: "continuous time", say.
        end: What is to be said of where the process ends in data.
        eval_num_times: Times, each with its own noise, for each example in evaluation.
        densities: Metrics of training that are negative log-densities in bits per dimension.
        curves: Named curves of the state that are worth a picture.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` and the parts of the bound, all in bits per
        dimension, and what an exact likelihood has where it is asked for.

    Raises:
        ValueError: If ``eval_num_times`` is not positive, or sampling does not fit the model.
    """
    if eval_num_times < 1:
        raise ValueError(f"eval_num_times must be at least 1, got {eval_num_times}")
    # Of schedules that are learned the parameters are part.
    fixed: Process | None = getattr(model, "process", None)
    sampling.check(
        reads=model.reads,
        optional=model.optional,
        units=model.units,
        drops_labels=model.drops_labels,
        process=fixed,
    )
    # The steps of a chain, whatever their variance: its own sampler asks at these alone.
    clipped = Ancestral(threshold="static") if getattr(model, "clips", False) else Ancestral()
    in_general = clipped if callable(default) else default
    said = sampling.record(
        reads=model.reads,
        optional=model.optional,
        drops_labels=model.drops_labels,
        # What a sampler is called and how often it asks does not depend on parameters.
        default=default({}, None) if callable(default) else default,
        # A learned schedule always leaves noise, for the decoder of grey levels to take off.
        ends_clean=fixed is not None and fixed.ends_clean,
    )
    answers = Answers(
        model=model,
        scored=scored,
        sampling=sampling,
        trajectory=trajectory,
        default=default,
        in_general=in_general,
        num_times=eval_num_times,
    )
    protocol: dict[str, Any] = {"num_noise_draws": eval_num_times, "parameters": "moving average"}
    if scored.likelihood in ("bound", "both"):
        protocol["bound"] = bound
    if scored.by_flow:
        # The noise that is left where the flow ends is counted as data, as in published numbers.
        protocol |= {**answers.exact, "end": f"{end}, noise left there counted as data"}
    has_score = scored.likelihood != "none"
    return Family(
        init=init,
        train_step=train_step,
        eval_step=answers.eval_step if has_score else None,
        sample=answers.sample,
        log_prob=answers.log_prob if has_score else None,
        encode=answers.encode,
        decode=answers.decode,
        denoising=answers.denoising,
        eval_protocol=protocol,
        density_metrics=density_metrics(
            model.num_dims,
            *densities,
            *("bits_per_dim", "reconstruction", "bits_per_dim_ode", "bits_per_dim_importance"),
            in_nats=("nats",),
        ),
        curves=curves,
        **said,
    )
