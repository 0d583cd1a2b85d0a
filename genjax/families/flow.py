"""Normalizing flows trained by maximum likelihood."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.bijectors import (
    Flow,
    UniformDequantizer,
    VariationalDequantizer,
    standard_normal_log_prob,
)
from genjax.devices import largest, own_key
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    PyTree,
    TrainState,
    as_levels,
    spread_rows,
)
from genjax.families.minimizing import ModelState, Params, minimizing
from genjax.losses import importance_weighted_nats, nats_to_bits_per_dim

# Rows that the round trip is measured on: it is about the map, not about the data.
_NUM_ROUND_TRIPS = 16


def flow(
    *,
    model: Flow,
    optimizer: optax.GradientTransformation,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    dequantizer: UniformDequantizer | VariationalDequantizer | None = None,
    ema_decay: float = 0.999,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
    temperature: float = 1.0,
    round_trip_every: int = 100,
) -> Family:
    r"""Normalizing flow.

    Real-valued data has a density; whole grey levels ``k`` are dequantised with noise ``u`` to
    :math:`(k + u) / V` in [0, 1], whose density bounds their probability from below. All transforms
    of the data belong to the model, so that its log-determinant holds them.

    Args:
        model: The flow, on events of this shape or on vectors of as many entries. If it has a
            ``context_size``, its context is the class label, one-hot.
        optimizer: Optimiser of the flow and the dequantiser together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        dequantizer: What the noise comes from; uniform if None.
        ema_decay: See :func:`~genjax.families.minimizing.minimizing`.
        accumulate_steps: The same.
        eval_num_draws: Draws of dequantisation noise for each example in evaluation.
        temperature: Standard deviation of the latents that samples are made from.
        round_trip_every: Steps between measurements of the round trip, which are logged until the
            next: how far decoding what was encoded is off at most, in grey levels or, for
            real-valued data, relative to ``1 + |x|``.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` (for grey levels the mean of single-draw
        bounds), with several draws also ``bits_per_dim_importance``, the tighter bound from their
        importance-weighted mean; and ``nats``, the negative log-likelihood of an example. With
        Hutchinson's estimate of a divergence they are unbiased, and the tighter bound is left out.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Dequantisation: Theis et al., arXiv:1511.01844, section 3.1; Ho et al., arXiv:1902.00275.
    """
    if eval_num_draws < 1 or not temperature > 0 or round_trip_every < 1:
        raise ValueError(
            "eval_num_draws and round_trip_every must be at least 1 and temperature positive, got "
            f"{eval_num_draws}, {round_trip_every} and {temperature}"
        )
    if math.prod(model.event_shape) != math.prod(event_shape):
        raise ValueError(f"a flow of events {model.event_shape} does not fit data {event_shape}")
    noise_of = dequantizer or UniformDequantizer()
    if num_levels is None:
        if dequantizer is not None:
            raise ValueError("real-valued data needs no dequantizer; leave it out")
        if model.divergence != "hutchinson":
            eval_num_draws = 1
    num_dims = math.prod(event_shape)
    # Of density per unit of x to probability of a bin of width 1 / V.
    offset = 0.0 if num_levels is None else num_dims * math.log(num_levels)

    def context_of(batch: Batch) -> Array | None:
        size = model.context_size
        return None if size is None else jax.nn.one_hot(batch["label"], size)

    def rows_of(params: Params, x: Array, source: Array) -> tuple[Array, Array]:
        """Data as the flow takes it, and the log-density of its noise."""
        log_noise = jnp.zeros(x.shape[0])
        if num_levels is not None:
            levels = x.astype(jnp.float32)
            noise, log_noise = cast(
                tuple[Array, Array],
                noise_of.apply(
                    {"params": params["dequantizer"]}, source, levels / (num_levels - 1)
                ),
            )
            x = (levels + noise) / num_levels
        return x.reshape(x.shape[0], *model.event_shape), log_noise

    def encode(
        params: Params,
        model_state: ModelState,
        rows: Array,
        batch: Batch,
        rngs: Mapping[str, PRNGKeyArray] | None = None,
    ) -> tuple[PyTree, Array]:
        variables = {"params": params["flow"], "constants": model_state["flow"]["constants"]}
        encoded = model.apply(
            variables, rows, context_of(batch), method="encode", rngs=cast(Any, rngs)
        )
        return cast(tuple[PyTree, Array], encoded)

    def apply(params: Params, model_state: ModelState, method: str, *args: Any) -> Any:
        variables = {"params": params["flow"], "constants": model_state["flow"]["constants"]}
        return model.apply(variables, *args, method=method)

    def nats_of(z: PyTree, log_det: Array, log_noise: Array) -> Array:
        return offset + log_noise - standard_normal_log_prob(z) - log_det

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        x = batch["x"]
        source = noise_of.draw(jax.random.fold_in(key, 1), x.shape)
        params: dict[str, PyTree] = {"dequantizer": {}}
        if num_levels is not None:
            levels = x.astype(jnp.float32) / (num_levels - 1)
            made = noise_of.init(jax.random.fold_in(key, 2), source, levels)
            params["dequantizer"] = made.get("params", {})
        rows, _ = rows_of(params, x, source)
        variables = model.init(key, rows, context_of(batch))
        state = {"constants": variables.get("constants", {}), "round_trip_error": jnp.zeros(())}
        return {**params, "flow": variables.get("params", {})}, {"flow": state}

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Array, Metrics]:
        rows, log_noise = rows_of(params, batch["x"], noise_of.draw(key, batch["x"].shape))
        rngs = {"dropout": jax.random.fold_in(key, 1), "probe": jax.random.fold_in(key, 2)}
        z, log_det = encode(params, model_state, rows, batch, rngs)
        mean = jnp.mean(nats_to_bits_per_dim(nats_of(z, log_det, log_noise), num_dims))
        return mean, {"bits_per_dim": mean, "log_det_per_dim": jnp.mean(log_det) / num_dims}

    init, minimize = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        key = own_key(key)
        state, metrics = minimize(state, batch, key)

        def round_trip() -> Array:
            few = jax.tree.map(lambda rows: rows[:_NUM_ROUND_TRIPS], dict(batch))
            rows, _ = rows_of(state.params, few["x"], noise_of.draw(key, few["x"].shape))
            z, _ = encode(state.params, state.model_state, rows, few)
            back = apply(state.params, state.model_state, "decode", z, context_of(few))
            error = jnp.abs(back - rows) * (num_levels or 1.0 / (1.0 + jnp.abs(rows)))
            # It warns; only the loss stops a run.
            return jnp.nan_to_num(jnp.max(error), nan=1e9, posinf=1e9).astype(jnp.float32)

        kept = state.model_state["flow"]
        error = jax.lax.cond(
            (state.step - 1) % round_trip_every == 0,
            round_trip,
            lambda: kept["round_trip_error"],
        )
        error = largest(error)
        state = state.replace(model_state={"flow": {**kept, "round_trip_error": error}})
        return state, {**metrics, "round_trip_error": error}

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])

        def one_draw(index: Array) -> Array:
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, index)
            source = jax.vmap(lambda k: noise_of.draw(k, event_shape))(own)
            rows, log_noise = rows_of(state.ema, batch["x"], source)
            if model.divergence is None:
                z, log_det = encode(state.ema, state.model_state, rows, batch)
                return nats_of(z, log_det, log_noise)

            def one_row(row: Array, example: Batch, k: PRNGKeyArray) -> Array:
                alone = jax.tree.map(lambda a: a[None], dict(example))
                rngs = {"probe": jax.random.fold_in(k, 1)}
                z, log_det = encode(state.ema, state.model_state, row[None], alone, rngs)
                return nats_of(z, log_det, jnp.zeros(1))[0]

            # Steps and signs of its own for each row, so that none depends on its batch.
            return log_noise + jax.vmap(one_row)(rows, dict(batch), own)

        return likelihood_metrics(
            one_draw, eval_num_draws, num_dims, bounds=model.divergence != "hutchinson"
        )

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Mapping[str, Array]:
        params, model_state = state.ema, state.model_state
        z = apply(params, model_state, "draw_latents", key, batch["x"].shape[0])
        z = jax.tree.map(lambda part: spread_rows(temperature * part), z)
        x = apply(params, model_state, "decode", z, context_of(batch)).reshape(-1, *event_shape)
        if num_levels is not None:
            return {"samples": as_levels(jnp.floor(x * num_levels), num_levels)}
        if event_shape != (2,) or model.context_size is not None:
            return {"samples": x}
        log_prob = lambda z: apply(params, model_state, "log_prob", z, None)  # noqa: E731
        return {"samples": x, **plane_density(x, log_prob)}

    def diagnose(metrics: Mapping[str, float]) -> Sequence[str]:
        lines = []
        error = metrics.get("round_trip_error", 0.0)
        limit, unit = (0.01, "of 1 + |x|") if num_levels is None else (0.5, "grey levels")
        if error > limit:
            lines.append(
                f"round trip: decoding what was encoded misses by up to {error:.2g} {unit}, so "
                "likelihood and samples are not those of one model; lower the learning rate or "
                "clip gradients"
            )
        log_det = metrics.get("log_det_per_dim", 0.0)
        if log_det > 0.9 * model.max_log_det_per_dim:
            lines.append(
                f"log-determinant: {log_det:.3f} nats a dimension of at most "
                f"{model.max_log_det_per_dim:.3f} that this flow can reach; add couplings"
            )
        return lines

    density = "exact"
    if num_levels is not None:
        variational = isinstance(noise_of, VariationalDequantizer)
        density = f"{'variational' if variational else 'uniform'} dequantisation"
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        eval_protocol={
            "density": density,
            **({"divergence": model.divergence} if model.divergence else {}),
            "num_noise_draws": eval_num_draws,
            "parameters": "moving average",
        },
        diagnose=diagnose,
    )


def likelihood_metrics(
    one_draw: Callable[[Array], Array], num_draws: int, num_dims: int, *, bounds: bool = True
) -> Metrics:
    """What evaluation says of a likelihood, or of a bound from draws of noise.

    Args:
        one_draw: From the number of a draw to nats ``[B]``.
        num_draws: Number of draws.
        num_dims: Dimensions of an event.
        bounds: Whether each draw is a bound (or exact). An estimate that is unbiased in nats is not
            unbiased in probability, so that several do not make a tighter bound.

    Returns:
        ``nats`` and ``bits_per_dim``, means over the draws; with several draws also
        ``bits_per_dim_importance``.
    """
    if num_draws == 1:
        draws = one_draw(jnp.zeros((), jnp.int32))[None]
    else:
        draws = jax.lax.map(one_draw, jnp.arange(num_draws))
    single = jnp.mean(draws, axis=0)
    result = {"nats": single, "bits_per_dim": nats_to_bits_per_dim(single, num_dims)}
    if num_draws > 1 and bounds:
        tighter = importance_weighted_nats(draws)
        result["bits_per_dim_importance"] = nats_to_bits_per_dim(tighter, num_dims)
    return result


def plane_density(
    points: Array, log_prob: Callable[[Array], Array], size: int = 100
) -> dict[str, Array]:
    """A density on a square grid around points of the plane.

    Args:
        points: ``[B, 2]``.
        log_prob: Log-density of points ``[N, 2]``.
        size: Points along a side.

    Returns:
        ``density`` ``[size, size]``, rows from low to high second coordinate, and
        ``density_reach``: the grid covers ``[-reach, reach]`` in both coordinates.
    """
    reach = 1.2 * jnp.quantile(jnp.abs(points), 0.995)
    axis = reach * jnp.asarray(np.linspace(-1.0, 1.0, size), jnp.float32)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    density = jnp.exp(log_prob(grid.reshape(-1, 2))).reshape(size, size)
    return {"density": density, "density_reach": reach}
