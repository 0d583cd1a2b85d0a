"""Continuous flows trained by regression on the velocities of straight paths."""

import math
from collections.abc import Mapping
from typing import Literal, cast

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
    trace_for,
)
from genjax.devices import mapped_axes, own_key
from genjax.diffusion import stratified_times
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    TrainState,
    as_levels,
    spread_rows,
)
from genjax.families.flow import likelihood_metrics, plane_density
from genjax.families.minimizing import ModelState, Params, minimizing
from genjax.losses import flow_matching_loss, straight_path


def flow_matching(
    *,
    velocity_net: nn.Module,
    optimizer: optax.GradientTransformation,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    coupling: Literal["independent", "optimal_transport"] = "independent",
    sigma_min: float = 0.0,
    method: Literal["dopri5", "tsit5", "heun", "euler"] = "dopri5",
    tolerance: float = 1e-5,
    sample_num_steps: int = 100,
    trace: Literal["exact", "hutchinson"] | None = None,
    ema_decay: float = 0.999,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
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
        sigma_min: See :func:`~genjax.losses.straight_path`.
        method: See :class:`~genjax.bijectors.Solver`.
        tolerance: Relative and absolute tolerance of the adaptive methods.
        sample_num_steps: Steps of the methods of fixed steps.
        trace: How the divergence of the likelihood is computed: ``"exact"``, or ``"hutchinson"``
            with one draw for each draw of noise; None for exact up to 16 entries.
        ema_decay: See :func:`~genjax.families.minimizing.minimizing`.
        accumulate_steps: The same.
        eval_num_draws: Draws of dequantisation noise (and signs) for each example in evaluation.

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
    solver = Solver(method=method, rtol=tolerance, atol=tolerance, num_steps=sample_num_steps)
    num_dims = math.prod(event_shape)
    trace = trace_for(num_dims, trace)
    if num_levels is None and trace == "exact":
        eval_num_draws = 1
    # Of density per unit of x in [-1, 1) to probability of a bin of width 2 / V.
    offset = 0.0 if num_levels is None else num_dims * math.log(num_levels / 2.0)
    conditional = getattr(velocity_net, "num_classes", None) is not None

    def label_of(batch: Batch) -> Array | None:
        return batch["label"] if conditional else None

    def points_of(x: Array, noise: Array) -> Array:
        if num_levels is None:
            return x
        return 2.0 * (x.astype(jnp.float32) + noise) / num_levels - 1.0

    def velocity(
        params: Params,
        x: Array,
        times: Array,
        label: Array | None,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Array:
        out = velocity_net.apply(
            {"params": params["velocity_net"]},
            x,
            jnp.broadcast_to(times, x.shape[:1]),
            label,
            deterministic=dropout_key is None,
            rngs=None if dropout_key is None else {"dropout": dropout_key},
        )
        return cast(Array, out)

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        label = batch["label"][:1] if conditional else None
        x = jnp.zeros((1, *event_shape))
        return {"velocity_net": velocity_net.init(key, x, jnp.zeros(1), label)["params"]}, {}

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Array, Metrics]:
        del model_state
        key_time, *_ = jax.random.split(key, 4)
        _, key_start, key_noise, key_dropout = jax.random.split(own_key(key), 4)
        data = points_of(batch["x"], jax.random.uniform(key_noise, batch["x"].shape))
        start = jax.random.normal(key_start, data.shape)
        if coupling == "optimal_transport":
            start = start[optimal_pairing(start, data)]
        times = stratified_times(key_time, data.shape[0], axis_name=mapped_axes())
        x_t, target = straight_path(start, data, times, sigma_min=sigma_min)
        predicted = velocity(params, x_t, times, label_of(batch), key_dropout)
        mean = jnp.mean(flow_matching_loss(predicted, target))
        return mean, {"path_length": jnp.mean(jnp.square(data - start)) * num_dims}

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def nats(params: Params, x: Array, label: Array | None, probe: Array | None) -> Array:
        def field(z: Array, t: Array) -> Array:
            return velocity(params, z, t, label)

        z, log_det = integrate_with_log_det(field, x, (1.0, 0.0), solver, probe=probe)
        return offset - standard_normal_log_prob(z) - log_det

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])

        def one_draw(index: Array) -> Array:
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, index)
            noise = jax.vmap(lambda k: jax.random.uniform(k, event_shape))(own)

            def one_row(x: Array, label: Array | None, k: PRNGKeyArray) -> Array:
                probe = None
                if trace == "hutchinson":
                    probe = draw_probe(jax.random.fold_in(k, 1), (1, *event_shape))
                alone = None if label is None else label[None]
                return nats(state.ema, x[None], alone, probe)[0]

            # Steps and signs of its own for each row, so that none depends on its batch.
            return jax.vmap(one_row)(points_of(batch["x"], noise), label_of(batch), own)

        return likelihood_metrics(one_draw, eval_num_draws, num_dims, bounds=trace == "exact")

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Mapping[str, Array]:
        label = label_of(batch)
        start = spread_rows(jax.random.normal(key, (batch["x"].shape[0], *event_shape)))

        def field(z: Array, t: Array) -> Array:
            return velocity(state.ema, z, t, label)

        x = integrate(field, start, (0.0, 1.0), solver)
        if num_levels is not None:
            levels = jnp.floor((x + 1.0) / 2.0 * num_levels)
            return {"samples": as_levels(levels, num_levels)}
        if event_shape != (2,) or conditional:
            return {"samples": x}
        return {"samples": x, **plane_density(x, lambda z: -nats(state.ema, z, None, None))}

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        eval_protocol={
            "density": "exact" if num_levels is None else "uniform dequantisation",
            "divergence": trace,
            "solver": f"{method}, tolerance {tolerance}"
            if solver.adaptive
            else f"{method}, {sample_num_steps} steps",
            "num_noise_draws": eval_num_draws,
            "parameters": "moving average",
        },
    )


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
