"""Normalizing flows trained by maximum likelihood."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.bijectors import (
    Flow,
    UniformDequantizer,
    VariationalDequantizer,
)
from genjax.devices import largest, own_key
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    Optimizer,
    PyTree,
    Samples,
    TrainState,
)
from genjax.families.dequantized_flow import DequantizedFlow
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.minimizing import minimizing


def flow(
    *,
    model: Flow,
    optimizer: Optimizer,
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
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.
        eval_num_draws: Draws of dequantisation noise for each example in evaluation.
        temperature: Standard deviation of the latents that samples are made from.
        round_trip_every: Steps between measurements of the round trip, which are logged until the
            next: how far decoding what was encoded is off at most, in grey levels or, for
            real-valued data, relative to ``1 + |x|``.

    Returns:
        The family. ``eval_step`` gives ``bits_per_dim`` (for grey levels the mean of single-draw
        bounds), with several draws also ``bits_per_dim_importance``, the tighter bound from their
        importance-weighted mean; and ``nats``, the negative log-likelihood of an example, which
        ``log_prob`` gives with its sign. With Hutchinson's estimate of a divergence they are
        unbiased, and the tighter bound is left out.

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
    if num_levels is None:
        if dequantizer is not None:
            raise ValueError("real-valued data needs no dequantizer; leave it out")
        if model.divergence != "hutchinson":
            eval_num_draws = 1
    likelihood = DequantizedFlow(
        model=model,
        dequantizer=dequantizer or UniformDequantizer(),
        event_shape=event_shape,
        num_levels=num_levels,
    )
    init, minimize = minimizing(
        init_model=likelihood.init,
        loss_and_grad=jax.value_and_grad(likelihood.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        # Noise is of one a row throughout, so that the whole step draws from the device's own key.
        key = own_key(key)
        state, metrics = minimize(state, batch, key)
        kept = state.model_state["flow"]
        # After the step, not in its loss: the parameters that go on are the ones to look at.
        error = jax.lax.cond(
            (state.step - 1) % round_trip_every == 0,
            lambda: likelihood.round_trip_error(state.params, state.model_state, batch, key),
            lambda: kept["round_trip_error"],
        )
        error = largest(error)
        state = state.replace(model_state={"flow": {**kept, "round_trip_error": error}})
        return state, {**metrics, "round_trip_error": error}

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        draws = likelihood.draws(state.ema, state.model_state, batch, key, eval_num_draws)
        bounds = model.divergence != "hutchinson"
        return likelihood_metrics(draws, likelihood.num_dims, bounds=bounds)

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        draws = likelihood.draws(state.ema, state.model_state, batch, key, eval_num_draws)
        return -jnp.mean(draws, axis=0)

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        return likelihood.sample(state.ema, state.model_state, key, batch, temperature)

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        return likelihood.latents(state.ema, state.model_state, batch, key)

    def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
        return likelihood.decode(state.ema, state.model_state, latents, batch)

    def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
        return likelihood.impute(state.ema, state.model_state, batch, key, num_steps)

    density = "exact"
    if num_levels is not None:
        variational = isinstance(dequantizer, VariationalDequantizer)
        density = f"{'variational' if variational else 'uniform'} dequantisation"
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        encode=encode,
        decode=decode,
        # A chain needs the density itself, not an estimate of it.
        impute=None if model.divergence == "hutchinson" else impute,
        eval_protocol={
            "density": density,
            **({"divergence": model.divergence} if model.divergence else {}),
            "num_noise_draws": eval_num_draws,
            "parameters": "moving average",
        },
        reads=("label",) if model.context_size is not None else (),
        density_metrics=density_metrics(
            likelihood.num_dims,
            "loss",
            "bits_per_dim",
            "bits_per_dim_importance",
            in_nats=("nats",),
        ),
        diagnose=likelihood.diagnose,
    )
