"""Normalizing flows trained by maximum likelihood."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.bijectors import Flow
from genjax.families.base import Batch, Family, Metrics, TrainState, as_levels, spread_rows
from genjax.families.minimizing import Params, minimizing
from genjax.losses import nats_to_bits_per_dim


def flow(
    *,
    model: Flow,
    optimizer: optax.GradientTransformation,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    ema_decay: float = 0.999,
    accumulate_steps: int = 1,
    eval_num_draws: int = 1,
    temperature: float = 1.0,
) -> Family:
    r"""Normalizing flow.

    Real-valued data has a density; whole grey levels ``k`` are dequantised with uniform noise to
    :math:`(k + u) / V` in [0, 1), whose density bounds their probability from below. All transforms
    of the data belong to the model, so that its log-determinant holds them.

    Args:
        model: The flow, on vectors; images are flattened row by row.
        optimizer: Its optimiser.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        ema_decay: See :func:`~genjax.families.minimizing.minimizing`.
        accumulate_steps: The same.
        eval_num_draws: Draws of dequantisation noise for each example in evaluation.
        temperature: Standard deviation of the latents that samples are made from.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` (for grey levels the mean of single-draw
        bounds), with several draws also ``bits_per_dim_importance``, the tighter bound from their
        importance-weighted mean; and ``nats``, the negative log-likelihood of an example.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Dequantisation: Theis et al., arXiv:1511.01844, section 3.1; importance bound: Burda et al.,
        arXiv:1509.00519, eq. 8.
    """
    if eval_num_draws < 1 or not temperature > 0:
        raise ValueError(
            f"eval_num_draws must be at least 1 and temperature positive, got {eval_num_draws} and "
            f"{temperature}"
        )
    num_dims = int(np.prod(event_shape))
    # Of density per unit of x to probability of a bin of width 1 / V.
    offset = 0.0 if num_levels is None else num_dims * math.log(num_levels)
    if num_levels is None:
        eval_num_draws = 1

    def rows_of(x: Array, noise: Array) -> Array:
        if num_levels is not None:
            x = (x.astype(jnp.float32) + noise) / num_levels
        return x.reshape(x.shape[0], -1)

    def nats(params: Params, rows: Array) -> Array:
        log_prob = model.apply({"params": params["flow"]}, rows, method="log_prob")
        return offset - cast(Array, log_prob)

    def init_params(key: PRNGKeyArray, batch: Batch) -> Params:
        x = batch["x"]
        noise = jax.random.uniform(jax.random.fold_in(key, 1), x.shape)
        return {"flow": model.init(key, rows_of(x, noise))["params"]}

    def loss(params: Params, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Metrics]:
        rows = rows_of(batch["x"], jax.random.uniform(key, batch["x"].shape))
        variables = {"params": params["flow"]}
        mean = jnp.mean(nats_to_bits_per_dim(nats(params, rows), num_dims))
        few = jax.lax.stop_gradient(rows[:32])
        z, log_det = cast(tuple[Array, Array], model.apply(variables, few, method="encode"))
        back = cast(Array, model.apply(variables, z, method="decode"))
        return mean, {
            "bits_per_dim": mean,
            "log_det_per_dim": jnp.mean(log_det) / num_dims,
            "round_trip_error": jnp.max(jnp.abs(back - few)),
        }

    init, train_step = minimizing(
        init_params=init_params,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])

        def one_draw(index: Array) -> Array:
            drawn = jax.vmap(
                lambda k: jax.random.uniform(jax.random.fold_in(k, index), event_shape)
            )
            return nats(state.ema, rows_of(batch["x"], drawn(keys)))

        draws = jax.lax.map(one_draw, jnp.arange(eval_num_draws))
        single = jnp.mean(draws, axis=0)
        result = {"nats": single, "bits_per_dim": nats_to_bits_per_dim(single, num_dims)}
        if eval_num_draws > 1:
            tighter = math.log(eval_num_draws) - jax.nn.logsumexp(-draws, axis=0)
            result["bits_per_dim_importance"] = nats_to_bits_per_dim(tighter, num_dims)
        return result

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Mapping[str, Array]:
        z = spread_rows(jax.random.normal(key, (batch["x"].shape[0], num_dims)))
        variables = {"params": state.ema["flow"]}
        x = cast(Array, model.apply(variables, temperature * z, method="decode"))
        x = x.reshape(-1, *event_shape)
        if num_levels is None:
            return {"samples": x}
        return {"samples": as_levels(jnp.floor(x * num_levels), num_levels)}

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        eval_protocol={
            "density": "exact" if num_levels is None else "uniform dequantisation",
            "num_noise_draws": eval_num_draws,
            "parameters": "moving average",
        },
        diagnose=diagnose,
    )


def diagnose(metrics: Mapping[str, float]) -> Sequence[str]:
    """Names what looks wrong in the logged means of a flow's training.

    Args:
        metrics: Means over a window of training steps, by name.

    Returns:
        One line for each suspicion.
    """
    error = metrics.get("round_trip_error", 0.0)
    if error > 0.01:
        return [
            f"round trip: decoding what was encoded misses by up to {error:.2g}, so likelihood and "
            "samples are not those of one model; lower the learning rate or clip gradients"
        ]
    return []
