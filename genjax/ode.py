"""Ordinary differential equations of points that move along a velocity field, solved by diffrax.

The functions are pure and take any field ``(x, t) -> dx/dt``: continuous flows and the probability
flow of diffusion models are both solved here.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.losses.arrays import sum_event, widened

Field: TypeAlias = Callable[[Array, Array], Array]
"""Velocity ``[B, *event]`` of points ``[B, *event]`` at a time ``[]``."""

_METHODS = {"dopri5": "Dopri5", "tsit5": "Tsit5", "heun": "Heun", "euler": "Euler"}
"""Solvers by their names in diffrax, which is imported where one is needed: it takes a while."""

Trace: TypeAlias = Literal["exact", "hutchinson"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solver:
    """How differential equations are solved.

    Attributes:
        method: ``"dopri5"`` or ``"tsit5"`` (order 5, steps by their estimated error), ``"heun"``
            (order 2) or ``"euler"`` (order 1), both of fixed steps.
        rtol: Relative tolerance of the adaptive methods, above 0.
        atol: Absolute tolerance of the adaptive methods, above 0, in the units of the points.
        num_steps: Number of steps of the methods of fixed steps.
        max_steps: Number of steps after which an adaptive method gives up.

    References:
        Kidger, On Neural Differential Equations, arXiv:2202.02435 (diffrax).
    """

    method: Literal["dopri5", "tsit5", "heun", "euler"] = "dopri5"
    rtol: float = 1e-5
    atol: float = 1e-5
    num_steps: int = 100
    max_steps: int = 1024

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(f"method must be {', '.join(_METHODS)}, got {self.method!r}")
        if not self.rtol > 0 or not self.atol > 0 or self.num_steps < 1 or self.max_steps < 1:
            raise ValueError(f"tolerances and numbers of steps must be positive, got {self}")

    @property
    def adaptive(self) -> bool:
        """Whether the steps are chosen by their estimated error."""
        return self.method in ("dopri5", "tsit5")


def _solve(
    term: Callable, start: tuple, times: tuple[float | Array, float | Array], solver: Solver
) -> tuple:
    import diffrax

    controller: diffrax.AbstractStepSizeController = diffrax.ConstantStepSize()
    step, max_steps = 1.0 / solver.num_steps, solver.num_steps
    if solver.adaptive:
        # The first step is a twentieth of the way; the controller adapts it from there on.
        controller = diffrax.PIDController(rtol=solver.rtol, atol=solver.atol)
        step, max_steps = 1.0 / 20.0, solver.max_steps
    dtype = start[0].dtype
    first, span = jnp.asarray(times[0], dtype), jnp.asarray(times[1] - times[0], dtype)

    def along(share: Any, y: tuple, args: Any) -> tuple:
        # Of the points' precision: shares may be wider, and would widen them.
        y = jax.tree.map(lambda part: part.astype(dtype), y)
        slopes = term(first + share.astype(dtype) * span, y)
        return jax.tree.map(lambda slope: span * slope, slopes)

    # Over the share of the way, from 0 to 1, whatever the times are: diffrax looks at the direction
    # of times that are computed by a callback, which programs for other platforms cannot have.
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(along),
        getattr(diffrax, _METHODS[solver.method])(),
        0.0,
        1.0,
        step,
        start,
        stepsize_controller=controller,
        # One more: rounding may leave a last short step.
        max_steps=max_steps + 1,
        # What does not converge comes out as NaN, which the training loop stops at.
        throw=False,
    )
    failed = solution.result != diffrax.RESULTS.successful

    def end(ys: Array) -> Array:
        return jnp.where(failed, jnp.nan, ys[-1]).astype(dtype)

    return cast(tuple, jax.tree.map(end, solution.ys))


def integrate(
    field: Field,
    x: Float[Array, "B *event"],
    times: tuple[float | Array, float | Array],
    solver: Solver,
) -> Float[Array, "B *event"]:
    """Moves points along a field.

    Args:
        field: The velocity of points at a time.
        x: Points at the first time, ``[B, *event]``.
        times: The first and the last time; they may run backwards.
        solver: How the equation is solved. Adaptive steps are common to all rows.

    Returns:
        Where they end, ``[B, *event]``; NaN if the solver gave up.
    """
    return cast(Array, _solve(lambda t, y: (field(y[0], t),), (x,), times, solver)[0])


def integrate_with_log_det(
    field: Field,
    x: Float[Array, "B *event"],
    times: tuple[float | Array, float | Array],
    solver: Solver,
    *,
    probe: Float[Array, "B *event"] | None = None,
) -> tuple[Float[Array, "B *event"], Float[Array, " B"]]:
    r"""Moves points along a field and integrates its divergence.

    Args:
        field: The velocity of points at a time.
        x: Points at the first time, ``[B, *event]``.
        times: The first and the last time; they may run backwards.
        solver: How the equation is solved. Adaptive steps are common to all rows.
        probe: Random signs ``e`` of the shape of ``x``, for Hutchinson's unbiased estimate
            :math:`e^T J e` of the divergence, one for the whole path; None for the exact one, which
            takes as many derivatives of the field as an event has entries.

    Returns:
        Where they end and :math:`\log |\det dx_1/dx_0| = \int \mathrm{tr} J\, dt`, ``[B]``.

    References:
        Chen et al., Neural ODEs, arXiv:1806.07366, theorem 1; Grathwohl et al., FFJORD,
        arXiv:1810.01367, section 3.1.
    """
    x = widened(x)

    def with_divergence(t: Array, y: tuple[Array, Array]) -> tuple[Array, Array]:
        def at_time(z: Array) -> Array:
            return field(z, t)

        if probe is not None:
            # Forward mode gives J e beside the velocity, and E[e^T J e] = tr J where E[e e^T] = I.
            velocity, along = jax.jvp(at_time, (y[0],), (probe.astype(x.dtype),))
            return velocity, sum_event(along * probe)
        # Exactly: entry i of J e_i for every unit vector e_i. The field is linearised once for all.
        velocity, push = jax.linearize(at_time, y[0])
        size = math.prod(x.shape[1:])

        def one_entry(index: Array) -> Array:
            unit = jax.nn.one_hot(index, size, dtype=x.dtype).reshape(x.shape[1:])
            return push(jnp.broadcast_to(unit, x.shape)).reshape(x.shape[0], size)[:, index]

        return velocity, jnp.sum(jax.vmap(one_entry)(jnp.arange(size)), axis=0)

    # Points and log-determinant are one system: d log|det| / dt = tr J (Chen et al., theorem 1, for
    # the density, with the opposite sign).
    start = (x, jnp.zeros(x.shape[0], x.dtype))
    moved, log_det = _solve(with_divergence, start, times, solver)
    return moved, log_det


def trace_for(size: int, trace: Trace | None = None) -> Trace:
    """How the divergence is computed for events of ``size`` entries, if nothing is asked for.

    Args:
        size: Number of entries of an event.
        trace: What is asked for: ``"exact"``, ``"hutchinson"``, or None for exact up to 16 entries.

    Returns:
        ``"exact"`` or ``"hutchinson"``.

    Raises:
        ValueError: If something else is asked for.
    """
    if trace is None:
        return "exact" if size <= 16 else "hutchinson"
    if trace not in ("exact", "hutchinson"):
        raise ValueError(f"trace must be exact or hutchinson, got {trace!r}")
    return trace


def draw_probe(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Random signs for Hutchinson's estimate.

    Args:
        key: Random key of the draw.
        shape: Shape of the points.

    Returns:
        Signs -1 and 1, float32, of that shape.
    """
    return jax.random.rademacher(key, shape, jnp.float32)
