"""A velocity field: how it is matched, its likelihood and its samples."""

import dataclasses
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.bijectors import (
    Solver,
    draw_probe,
    integrate,
    integrate_with_log_det,
    standard_normal_log_prob,
)
from genjax.devices import mapped_axes, own_key
from genjax.diffusion import stratified_times
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    Samples,
    Step,
    label_of,
    num_classes_of,
)
from genjax.families.draws import fold_each, keys_by_example, spread_rows
from genjax.families.levels import Bins, Reals, Units
from genjax.families.likelihood import draws_of, plane_density
from genjax.losses import flow_matching_loss, straight_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchedFlow:
    """A velocity field: its loss, likelihood and samples, as functions of parameters and rows.

    Attributes:
        velocity_net: Module ``(x_t, t, label, deterministic) -> velocity``.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        coupling: Which noise goes with which example.
        sigma_min: Standard deviation that is left at the end of a path.
        solver: How the differential equation is solved.
        trace: How the divergence of the likelihood is computed.
    """

    velocity_net: nn.Module
    event_shape: tuple[int, ...]
    num_levels: int | None
    coupling: str
    sigma_min: float
    solver: Solver
    trace: str

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def units(self) -> Units:
        """Data to points of the flow, and back."""
        return Reals() if self.num_levels is None else Bins(self.num_levels, -1.0, 1.0)

    @property
    def conditional(self) -> bool:
        """Whether the network takes labels."""
        return num_classes_of(self.velocity_net) is not None

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of the network."""
        label = batch["label"][:1] if self.conditional else None
        x = jnp.zeros((1, *self.event_shape))
        params = self.velocity_net.init(key, x, jnp.zeros(1), label)["params"]
        return {"velocity_net": params}, {}

    def velocity(
        self,
        params: Params,
        x: Array,
        times: Array,
        label: Array | None,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        """The velocity of points at times, ``[B, *event]``."""
        out = self.velocity_net.apply(
            {"params": params["velocity_net"]},
            x,
            jnp.broadcast_to(times, x.shape[:1]),
            label,
            deterministic=dropout_key is None,
            rngs=None if dropout_key is None else {"dropout": dropout_key},
        )
        return cast(Array, out)

    def loss(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: PRNGKeyArray,
        step: Step,
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        """Mean squared error of the velocity."""
        del step
        # Stratified times are those of the global batch, so their key is the same on all devices.
        key_time, *_ = jax.random.split(key, 4)
        _, key_start, key_noise, key_dropout = jax.random.split(own_key(key), 4)
        noise = jax.random.uniform(key_noise, batch["x"].shape)
        data = self.units.encode(batch["x"], noise)
        start = jax.random.normal(key_start, data.shape)
        # Any pairing has the same marginals; the optimal one has straighter paths.
        if self.coupling == "optimal_transport":
            start = start[optimal_pairing(start, data)]
        times = stratified_times(key_time, data.shape[0], axis_name=mapped_axes())
        x_t, target = straight_path(start, data, times, sigma_min=self.sigma_min)
        label = label_of(batch, conditional=self.conditional)
        predicted = self.velocity(params, x_t, times, label, key_dropout)
        mean = jnp.mean(flow_matching_loss(predicted, target))
        path_length = jnp.mean(jnp.square(data - start)) * self.num_dims
        return mean, ({"path_length": path_length}, model_state)

    def nats(self, params: Params, x: Array, label: Array | None, probe: Array | None) -> Array:
        """Negative log-likelihood of points, or of the bins they lie in, ``[B]``."""
        # Of density per unit of x in [-1, 1) to probability of a bin of width 2 / V.
        levels = self.num_levels
        offset = 0.0 if levels is None else self.num_dims * math.log(levels / 2.0)

        def field(z: Array, t: Array) -> Array:
            return self.velocity(params, z, t, label)

        # From data at time 1 back to noise at time 0, along with the integral of the divergence.
        z, log_det = integrate_with_log_det(field, x, (1.0, 0.0), self.solver, probe=probe)
        return offset - standard_normal_log_prob(z) - log_det

    def draws(self, params: Params, batch: Batch, key: PRNGKeyArray, num_draws: int) -> Array:
        """Nats of each example for each draw of noise, ``[num_draws, B]``."""
        keys = keys_by_example(key, batch["index"])

        def one_draw(index: Array) -> Array:
            own = fold_each(keys, index)
            noise = jax.vmap(lambda k: jax.random.uniform(k, self.event_shape))(own)

            def one_row(x: Array, label: Array | None, k: PRNGKeyArray) -> Array:
                probe = None
                if self.trace == "hutchinson":
                    probe = draw_probe(jax.random.fold_in(k, 1), (1, *self.event_shape))
                alone = None if label is None else label[None]
                return self.nats(params, x[None], alone, probe)[0]

            # Steps and signs of its own for each row, so that none depends on its batch.
            label = label_of(batch, conditional=self.conditional)
            return jax.vmap(one_row)(self.units.encode(batch["x"], noise), label, own)

        return draws_of(one_draw, num_draws)

    def latents(self, params: Params, batch: Batch, key: PRNGKeyArray) -> Array:
        """Noise that the equation leads to from each example, under its first draw of noise."""
        own = fold_each(keys_by_example(key, batch["index"]), 0)
        noise = jax.vmap(lambda k: jax.random.uniform(k, self.event_shape))(own)
        x = self.units.encode(batch["x"], noise)
        return self._solved(params, x, batch, (1.0, 0.0))

    def decode(self, params: Params, z: Array, batch: Batch) -> Array:
        """The data that the equation leads to from noise, ``[B, *event]``."""
        return self.units.decode(self._solved(params, z, batch, (0.0, 1.0)))

    def _solved(self, params: Params, x: Array, batch: Batch, times: tuple[float, float]) -> Array:
        label = label_of(batch, conditional=self.conditional)

        def field(z: Array, t: Array) -> Array:
            return self.velocity(params, z, t, label)

        return integrate(field, x, times, self.solver)

    def sample(self, params: Params, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Solutions of the equation from noise, and the density of points of the plane."""
        start = spread_rows(jax.random.normal(key, (batch["x"].shape[0], *self.event_shape)))
        x = self._solved(params, start, batch, (0.0, 1.0))
        rows = self.units.decode(x)
        if self.num_levels is not None or self.event_shape != (2,) or self.conditional:
            return Samples(rows=rows)
        density = plane_density(x, lambda z: -self.nats(params, z, None, None))
        return Samples(rows=rows, density=density)


def optimal_pairing(noise: Float[Array, "B *event"], data: Float[Array, "B *event"]) -> Array:
    """The order of the rows of noise that brings them closest to those of the data.

    Args:
        noise: Rows to put in order.
        data: Rows they go with.

    Returns:
        Indices ``[B]``: ``noise[indices]`` has the least sum of squared distances to ``data``, by
        the Hungarian algorithm of optax.

    References:
        Tong et al., arXiv:2302.00482, algorithm 3 (exact plan).
    """
    a, b = noise.reshape(noise.shape[0], -1), data.reshape(data.shape[0], -1)
    costs = jnp.sum(jnp.square(b), 1)[:, None] + jnp.sum(jnp.square(a), 1) - 2.0 * b @ a.T
    rows, columns = optax.assignment.hungarian_algorithm(jax.lax.stop_gradient(costs))
    return columns[jnp.argsort(rows)]
