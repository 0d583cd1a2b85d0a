r"""The probability flow of a model: latents of rows, rows of latents, exact likelihoods.

Points move along a velocity field from data to noise of a normal prior; the change of their density
is the integral of the field's divergence.

References:
    Chen et al., arXiv:1806.07366, theorem 1; Song et al., arXiv:2011.13456, section 4.3.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion import Denoiser, Estimate, Process, latest
from genjax.diffusion.guidance import EstimateFn
from genjax.families.base import Batch
from genjax.families.draws import fold_each, keys_by_example
from genjax.families.levels import Bins, Units
from genjax.families.likelihood import draws_of
from genjax.ode import Solver, draw_probe, integrate, integrate_with_log_det, trace_for

Field: TypeAlias = Callable[[Array, Array, Any], Array]
"""Velocity ``[B, *event]`` of points, at a time ``[]``, for labels ``[B]`` or whatever is told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbabilityFlow:
    """A field between data and noise, as functions of rows.

    Attributes:
        field: The velocity.
        units: Data to points, and back.
        event_shape: Shape of one example.
        times: Time of data and time of noise.
        solver: How the equation is solved.
        trace: ``"exact"`` or ``"hutchinson"``: how the divergence is computed.
        data_scale: Scale of data among the points at its time.
        prior_std: Standard deviation of the noise.
    """

    field: Field
    units: Units
    event_shape: tuple[int, ...]
    times: tuple[float | Array, float | Array]
    solver: Solver
    trace: str
    data_scale: Array | float = 1.0
    prior_std: float = 1.0

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    def nats(self, x: Array, told: Any, probe: Array | None) -> Array:
        """Negative log-likelihood of points, or of the bins they lie in, ``[B]``."""
        z, log_det = integrate_with_log_det(
            lambda z, t: self.field(z, t, told),
            x * self.data_scale,
            self.times,
            self.solver,
            probe=probe,
        )
        z = z / self.prior_std
        square = jnp.sum(jnp.square(z.reshape(z.shape[0], -1)), axis=1)
        prior = -0.5 * (square + self.num_dims * math.log(2.0 * math.pi))
        # A point is data times its scale; the prior has one; and a bin of width 2 / V has the
        # probability of its density times that.
        log_scale = jnp.log(self.data_scale) - math.log(self.prior_std)
        if isinstance(self.units, Bins):
            width = (self.units.high - self.units.low) / self.units.num_levels
            log_scale = log_scale + math.log(width)
        return -(prior + log_det + self.num_dims * log_scale)

    def draws(self, batch: Batch, told: Any, key: PRNGKeyArray, num_draws: int) -> Array:
        """Nats of each example for each draw of noise, ``[num_draws, B]``."""
        keys = keys_by_example(key, batch["index"])

        def one_draw(index: Array) -> Array:
            own = fold_each(keys, index)

            def one_row(x: Array, told: Any, k: PRNGKeyArray) -> Array:
                probe = None
                if self.trace == "hutchinson":
                    probe = draw_probe(jax.random.fold_in(k, 1), (1, *self.event_shape))
                alone = jax.tree.map(lambda a: a[None], told)
                return self.nats(x[None], alone, probe)[0]

            # Steps and signs of its own for each row, so that none depends on its batch.
            return jax.vmap(one_row)(self._points(batch, own), told, own)

        return draws_of(one_draw, num_draws)

    def _points(self, batch: Batch, keys: Array) -> Array:
        noise = jax.vmap(lambda k: jax.random.uniform(k, self.event_shape))(keys)
        return self.units.encode(batch["x"], noise)

    def latents(self, batch: Batch, told: Any, key: PRNGKeyArray) -> Array:
        """Noise that the equation leads to from each example, under its first draw of noise."""
        own = fold_each(keys_by_example(key, batch["index"]), 0)
        x = self._points(batch, own) * self.data_scale
        return integrate(lambda z, t: self.field(z, t, told), x, self.times, self.solver)

    def points(self, z: Array, told: Any) -> Array:
        """The points of data that the equation leads to from noise."""
        back = self.times[::-1]
        return integrate(lambda z, t: self.field(z, t, told), z, back, self.solver)

    def decode(self, z: Array, told: Any) -> Array:
        """The data that the equation leads to from noise, ``[B, *event]``."""
        return self.units.decode(self.points(z, told) / self.data_scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow:
    """How the probability flow of a model is solved: keys of its family.

    Attributes:
        method: Method of the solver: see :class:`~genjax.ode.Solver`.
        tolerance: Relative and absolute tolerance of the adaptive methods.
        trace: How the divergence of the likelihood is computed: ``"exact"``, or ``"hutchinson"``
            with one draw for each draw of noise; None for exact up to 16 entries.
    """

    method: Literal["dopri5", "tsit5", "heun", "euler"] = "dopri5"
    tolerance: float = 1e-5
    trace: Literal["exact", "hutchinson"] | None = None

    def __post_init__(self) -> None:
        self.solver(1)
        trace_for(1, self.trace)

    def solver(self, num_steps: int) -> Solver:
        """The solver; so many steps of the methods of fixed steps."""
        return Solver(
            method=self.method, rtol=self.tolerance, atol=self.tolerance, num_steps=num_steps
        )

    def protocol(self, num_dims: int, num_levels: int | None, num_steps: int) -> dict[str, str]:
        """What must be said beside a likelihood."""
        solver = self.solver(num_steps)
        return {
            "density": "exact" if num_levels is None else "uniform dequantisation",
            "divergence": trace_for(num_dims, self.trace),
            "solver": f"{self.method}, tolerance {self.tolerance}"
            if solver.adaptive
            else f"{self.method}, {num_steps} steps",
        }


def denoising_flow(
    process: Process,
    estimate_fn: EstimateFn,
    *,
    units: Units,
    event_shape: tuple[int, ...],
    flow: Flow,
    num_steps: int,
) -> ProbabilityFlow:
    """The probability flow of a denoising model.

    Args:
        process: Its process.
        estimate_fn: Its estimates of data and noise.
        units: Units of points: of grey levels, the bins that noise is spread over.
        event_shape: Shape of one example.
        flow: How the flow is solved.
        num_steps: Steps of the methods of fixed steps.

    Returns:
        The flow, from data at the earliest time that the network is asked at to noise at time 1, or
        at the latest that there is signal at.
    """

    def field(z: Array, t: Array, told: Any) -> Array:
        def estimate(z: Array, t: Array) -> Estimate:
            return estimate_fn(z, t, told)

        return Denoiser(process, estimate).velocity(z, t)

    earliest = process.earliest
    return ProbabilityFlow(
        field=field,
        units=units,
        event_shape=event_shape,
        # Where there is no signal at all, an estimate of noise says nothing of data.
        times=(earliest, latest(process) if process.ends_clean else 1.0),
        solver=flow.solver(num_steps),
        trace=trace_for(math.prod(event_shape), flow.trace),
        data_scale=process.scales(jnp.array(earliest)).alpha,
        prior_std=process.prior_std,
    )
