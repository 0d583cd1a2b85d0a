"""What a model that denoises says of rows and makes of noise, once it is trained."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion import Process, Sampler
from genjax.families.base import (
    Batch,
    Denoising,
    Metrics,
    Params,
    Samples,
    TrainState,
)
from genjax.families.likelihood import likelihood_metrics
from genjax.families.middle import Asked
from genjax.families.probability_flow import Flow, ProbabilityFlow
from genjax.families.sampling import Sampling, Trajectory, told_if
from genjax.families.told import Told, with_collections
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

    def told(self, batch: Batch, key: PRNGKeyArray | None, *, training: bool = False) -> Told:
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

    @property
    def by_flow(self) -> bool:
        """Whether the probability flow scores rows."""
        return self.likelihood in ("ode", "both")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What a trained model says of rows and makes of noise: the functions of the record.

    Attributes:
        model: The model.
        scored: How rows are scored.
        sampling: How samples are drawn.
        trajectory: What is kept of the way to samples.
        default: The sampler where the ``sample`` section names none, or what makes it of the
            parameters and what is told.
        in_general: The sampler where neither is known.
        num_times: Times, each with its own noise, for each example in evaluation.
    """

    model: DenoisingModel
    scored: Likelihood
    sampling: Sampling
    trajectory: Trajectory
    default: Sampler | Callable[[Params, Told], Sampler]
    in_general: Sampler
    num_times: int

    @property
    def exact(self) -> dict[str, Any]:
        """What is to be said of the likelihood by the flow."""
        model = self.model
        return self.scored.protocol(model.num_dims, model.num_levels, self.sampling.num_steps)

    def _known(self, state: TrainState) -> Params:
        return with_collections(state.ema, state.model_state)

    def _flow(self, state: TrainState) -> ProbabilityFlow:
        return self.model.flow(self._known(state), self.scored, self.sampling.num_steps)

    def _flow_draws(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return self._flow(state).draws(batch, self.model.told(batch, key), key, self.num_times)

    def eval_step(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        """Parts of the bound, the exact likelihood, or both, in bits per dimension."""
        found: dict[str, Array] = {}
        num_dims = self.model.num_dims
        if self.scored.by_flow:
            draws = self._flow_draws(state, batch, key)
            bounds = self.exact["divergence"] == "exact"
            one_kind = likelihood_metrics(draws, num_dims, bounds=bounds)
            if self.scored.likelihood == "ode":
                return one_kind
            found["bits_per_dim_ode"] = one_kind["bits_per_dim"]
        nats = self.model.bound(self._known(state), batch, key, self.num_times)
        parts = {name: nats_to_bits_per_dim(part, num_dims) for name, part in nats.items()}
        return {**found, **parts, "bits_per_dim": jax.tree.reduce(jnp.add, parts)}

    def log_prob(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        """Less the bound in nats, or the exact likelihood, ``[B]``."""
        if self.scored.likelihood == "ode":
            return -jnp.mean(self._flow_draws(state, batch, key), axis=0)
        nats = self.model.bound(self._known(state), batch, key, self.num_times)
        return -jax.tree.reduce(jnp.add, nats)

    def sample(self, state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Draws samples, a row for each of the batch."""
        model, params, told = self.model, self._known(state), self.model.told(batch, key)
        made = self.default(params, told) if callable(self.default) else self.default
        return self.sampling.draw(
            model.process_of(params),
            told_if(bool(model.reads), functools.partial(model.estimate, params)),
            key,
            (batch["x"].shape[0], *model.event_shape),
            self.sampling.told(batch, told),
            against=self.sampling.against(batch, told, model.optional),
            default=made,
            units=model.units,
            trajectory=self.trajectory,
        )

    def encode(self, state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        """Noise that the flow makes of rows."""
        return self._flow(state).latents(batch, self.model.told(batch, None), key)

    def decode(self, state: TrainState, latents: Array, batch: Batch) -> Array:
        """Rows that the flow makes of noise."""
        return self._flow(state).decode(latents, self.model.told(batch, None))

    def denoising(self, state: TrainState, batch: Batch) -> Denoising:
        """The model as edits ask it."""
        params = self._known(state)
        told = self.sampling.told(batch, self.model.told(batch, None))
        process = self.model.process_of(params)
        return self.sampling.denoising(self.model, params, process, told, default=self.in_general)
