"""Continuous flows: bijectors that move points along a learned velocity field."""

import math
from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.bijectors.base import Bijector, Context, Kept
from genjax.bijectors.elementwise import at_least_float32
from genjax.ode import Solver, Trace, draw_probe, integrate_with_log_det, trace_for


class ContinuousFlow(Bijector):
    r"""The map that moves points from time 1 to time 0 along a learned field.

    Time 1 is that of the data, time 0 that of the noise, as in flow matching.

    Attributes:
        field: Module of the velocity, ``(x, t, context) -> dx/dt``.
        solver: How the equation is solved.
        trace: ``"exact"`` or ``"hutchinson"``, whose signs come from the rng ``probe``, or, where
            none is given, are the same in each call.

    References:
        Grathwohl et al., FFJORD, arXiv:1810.01367.
    """

    field: nn.Module
    solver: Solver = Solver()
    trace: Trace = "exact"

    def _run(
        self, x: Float[Array, "B *event"], context: Context | None, times: tuple[float, float]
    ) -> Kept:
        trace = trace_for(math.prod(x.shape[1:]), self.trace)
        x = at_least_float32(x)
        # The parameters are made by one call, outside of the solver, which then takes the field as
        # a pure function of its variables.
        if self.is_initializing():
            cast(Callable, self.field)(x, jnp.zeros((), x.dtype), context)
            return x, jnp.zeros(x.shape[0], x.dtype)
        unbound, variables = self.field.clone(parent=None), self.field.variables

        def field(z: Array, t: Array) -> Array:
            return cast(Array, unbound.apply(variables, z, jnp.asarray(t, z.dtype), context))

        probe = None
        if trace == "hutchinson":
            key = self.make_rng("probe") if self.has_rng("probe") else jax.random.key(0)
            probe = draw_probe(key, x.shape)
        return integrate_with_log_det(field, x, times, self.solver, probe=probe)

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Moves data to noise."""
        return self._run(x, context, (1.0, 0.0))

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Moves noise to data."""
        return self._run(y, context, (0.0, 1.0))
