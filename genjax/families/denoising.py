"""The record of every family whose model estimates data and noise in latents of a process."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion import Ancestral, Process, Sampler
from genjax.families.base import (
    Batch,
    Denoising,
    Family,
    Metrics,
    Params,
    Samples,
    TrainState,
)
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.middle import Asked
from genjax.families.probability_flow import Flow, ProbabilityFlow
from genjax.families.sampling import Sampling, Trajectory, told_if
from genjax.families.told import Told, same_key, with_collections
from genjax.losses import nats_to_bits_per_dim


class DenoisingModel(Asked, Protocol):
    """What the record is made from, as functions of parameters and rows.

    Attributes:
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        num_dims: Entries of an example.
        units: Data to the units of the process, and back.
        reads: Features of a batch that the network is told.
        optional: Those of them that it can do without.
        drops_labels: Whether it is trained without being told anything, too.
    """

    @property
    def num_levels(self) -> int | None:
        """See the class."""
        ...

    @property
    def num_dims(self) -> int:
        """See the class."""
        ...

    @property
    def optional(self) -> tuple[str, ...]:
        """See the class."""
        ...

    @property
    def drops_labels(self) -> bool:
        """See the class."""
        ...

    def process_of(self, params: Params) -> Process:
        """The process, of which a schedule may be learned."""
        ...

    def told(self, batch: Batch, key: PRNGKeyArray, *, training: bool = False) -> Told:
        """What the network is told of a batch: see :func:`~genjax.families.told.tell`."""
        ...

    def bound(self, params: Params, batch: Batch, key: PRNGKeyArray, num_times: int) -> Metrics:
        """Parts of the bound of each example in nats, ``[B]``."""
        ...

    def flow(self, params: Params, flow: Flow, num_steps: int) -> ProbabilityFlow:
        """The probability flow between data and noise."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood(Flow):
    """How rows are scored: keys of the family.

    Attributes:
        likelihood: ``"bound"``: the variational bound; ``"ode"``: the probability flow's exact
            likelihood of dequantised data; ``"both"``: the bound, and the other beside it as
            ``bits_per_dim_ode``; ``"none"``: neither.
        method: Method of the solver of the probability flow: see :class:`~genjax.ode.Solver`.
        tolerance: Relative and absolute tolerance of the adaptive methods.
        trace: How the divergence of the likelihood is computed: ``"exact"``, or ``"hutchinson"``
            with one draw for each draw of noise; None for exact up to 16 entries.
    """

    likelihood: Literal["bound", "ode", "both", "none"] = "bound"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.likelihood not in ("bound", "ode", "both", "none"):
            raise ValueError(
                f"likelihood must be bound, ode, both or none, got {self.likelihood!r}"
            )


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
    by_flow = scored.likelihood in ("ode", "both")
    exact = scored.protocol(model.num_dims, model.num_levels, sampling.num_steps)

    def known(state: TrainState) -> Params:
        return with_collections(state.ema, state.model_state)

    def flow_of(state: TrainState) -> ProbabilityFlow:
        return model.flow(known(state), scored, sampling.num_steps)

    def flow_draws(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return flow_of(state).draws(batch, model.told(batch, key), key, eval_num_times)

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        found: dict[str, Array] = {}
        if by_flow:
            draws = flow_draws(state, batch, key)
            one_kind = likelihood_metrics(
                draws, model.num_dims, bounds=exact["divergence"] == "exact"
            )
            if scored.likelihood == "ode":
                return one_kind
            found["bits_per_dim_ode"] = one_kind["bits_per_dim"]
        nats = model.bound(known(state), batch, key, eval_num_times)
        parts = {name: nats_to_bits_per_dim(part, model.num_dims) for name, part in nats.items()}
        return {**found, **parts, "bits_per_dim": jax.tree.reduce(jnp.add, parts)}

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        if scored.likelihood == "ode":
            return -jnp.mean(flow_draws(state, batch, key), axis=0)
        return -jax.tree.reduce(jnp.add, model.bound(known(state), batch, key, eval_num_times))

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        params, told = known(state), model.told(batch, key)
        return sampling.draw(
            model.process_of(params),
            told_if(bool(model.reads), functools.partial(model.estimate, params)),
            key,
            (batch["x"].shape[0], *model.event_shape),
            sampling.told(batch, told),
            against=sampling.against(batch, told, model.optional),
            default=default(params, told) if callable(default) else default,
            units=model.units,
            trajectory=trajectory,
        )

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return flow_of(state).latents(batch, model.told(batch, same_key()), key)

    def decode(state: TrainState, latents: Array, batch: Batch) -> Array:
        return flow_of(state).decode(latents, model.told(batch, same_key()))

    def denoising(state: TrainState, batch: Batch) -> Denoising:
        params, told = known(state), sampling.told(batch, model.told(batch, same_key()))
        process = model.process_of(params)
        return sampling.denoising(model, params, process, told, default=in_general)

    protocol: dict[str, Any] = {"num_noise_draws": eval_num_times, "parameters": "moving average"}
    if scored.likelihood in ("bound", "both"):
        protocol["bound"] = bound
    if by_flow:
        # The noise that is left where the flow ends is counted as data, as in published numbers.
        protocol |= {**exact, "end": f"{end}, noise left there counted as data"}
    has_score = scored.likelihood != "none"
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step if has_score else None,
        sample=sample,
        log_prob=log_prob if has_score else None,
        encode=encode,
        decode=decode,
        denoising=denoising,
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
