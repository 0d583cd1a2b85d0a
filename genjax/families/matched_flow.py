"""A velocity field: how it is matched, its likelihood and its samples."""

import dataclasses
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.devices import mapped_axes, own_key, spread_rows
from genjax.diffusion import Estimate, Straight, stratified_times
from genjax.families.base import (
    Batch,
    Metrics,
    ModelState,
    Params,
    Samples,
    Step,
    init_network,
)
from genjax.families.draws import check_label_dropout
from genjax.families.levels import Bins, Reals, Units
from genjax.families.likelihood import plane_density
from genjax.families.probability_flow import ProbabilityFlow
from genjax.families.told import (
    Told,
    drop_told,
    first_told,
    heard,
    optional_of,
    reads_of,
    tell,
    variables_of,
    with_collections,
)
from genjax.losses import flow_matching_loss, straight_path
from genjax.ode import Solver


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
        label_dropout: Probability with which a row's label is left out in training.
    """

    velocity_net: nn.Module
    event_shape: tuple[int, ...]
    num_levels: int | None
    coupling: str
    sigma_min: float
    solver: Solver
    trace: str
    label_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_label_dropout(self.label_dropout, conditional=bool(self.optional))

    @property
    def num_dims(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def units(self) -> Units:
        """Data to points of the flow, and back."""
        return Reals() if self.num_levels is None else Bins(self.num_levels, -1.0, 1.0)

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told."""
        return reads_of(self.velocity_net)

    @property
    def optional(self) -> tuple[str, ...]:
        """Those of them that the network can do without."""
        return optional_of(self.velocity_net)

    def init(self, key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        """Parameters of the network, and its other collections."""
        x, told = jnp.zeros((1, *self.event_shape)), first_told(self.velocity_net, batch)
        params, state = init_network(self.velocity_net, key, x, jnp.zeros(1), told)
        return {"velocity_net": params}, {"velocity_net": state} if state else {}

    def velocity(
        self,
        params: Params,
        x: Array,
        times: Array,
        told: Told,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        """The velocity of points at times, ``[B, *event]``."""
        out = self.velocity_net.apply(
            variables_of(params, "velocity_net"),
            x,
            jnp.broadcast_to(times, x.shape[:1]),
            heard(told),
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
        key_told = jax.random.fold_in(key_dropout, 1)
        told = drop_told(key_told, self.told(batch, key_told, training=True), self.label_dropout)
        known = with_collections(params, model_state)
        predicted = self.velocity(known, x_t, times, told, key_dropout)
        mean = jnp.mean(flow_matching_loss(predicted, target))
        path_length = jnp.mean(jnp.square(data - start)) * self.num_dims
        return mean, ({"path_length": path_length}, model_state)

    def flow(self, params: Params) -> ProbabilityFlow:
        """The probability flow, from data at time 1 to noise at time 0."""

        def field(z: Array, t: Array, told: Told) -> Array:
            return self.velocity(params, z, t, told)

        return ProbabilityFlow(
            field=field,
            units=self.units,
            event_shape=self.event_shape,
            times=(1.0, 0.0),
            solver=self.solver,
            trace=self.trace,
        )

    @property
    def process(self) -> Straight:
        """The process of the paths, whose time runs from data to noise."""
        return Straight(sigma_min=self.sigma_min)

    def estimate(self, params: Params, z: Array, t: Array, told: Told) -> Estimate:
        """What samplers ask: data and noise in points at one time of the process."""
        velocity = self.velocity(params, z, 1.0 - t, told)
        # A point is its noise, moved along the velocity for as long as it is on the way.
        noise = z - (1.0 - t) * velocity
        return Estimate(velocity + (1.0 - self.sigma_min) * noise, noise)

    def told(self, batch: Batch, key: PRNGKeyArray | None, *, training: bool = False) -> Told:
        """What the network is told of a batch: see :func:`~genjax.families.told.tell`."""
        return tell(self.velocity_net, batch, key, training=training)

    def sample(self, params: Params, key: PRNGKeyArray, batch: Batch) -> Samples:
        """Solutions of the equation from noise, and the density of points of the plane."""
        start = spread_rows(jax.random.normal(key, (batch["x"].shape[0], *self.event_shape)))
        flow = self.flow(params)
        x = flow.points(start, self.told(batch, key))
        rows = self.units.decode(x)
        if self.num_levels is not None or self.event_shape != (2,) or self.reads:
            return Samples(rows=rows)
        density = plane_density(x, lambda z: -flow.nats(z, None, None))
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
