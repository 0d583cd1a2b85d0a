"""The training step of every family that minimises one loss with one optimiser."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import average, average_changes, mapped_axes
from genjax.families.base import (
    Acts,
    Batch,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Step,
    TrainState,
    make_optimizer,
)

LossAndGrad: TypeAlias = Callable[
    [Params, ModelState, Batch, PRNGKeyArray, Step],
    tuple[tuple[Array, tuple[Metrics, ModelState]], Params],
]


def minimizing(
    *,
    init_model: Callable[[PRNGKeyArray, Batch], tuple[Params, ModelState]],
    loss_and_grad: LossAndGrad,
    optimizer: Optimizer,
    ema_decay: float | Callable[[Step, int], Array],
    accumulate_steps: int = 1,
    project: Callable[[Params], Params] | None = None,
) -> tuple[
    Callable[[PRNGKeyArray, Batch], TrainState],
    Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]],
]:
    """Builds ``init`` and ``train_step`` of a :class:`~genjax.families.base.Family`.

    Args:
        init_model: Makes the parameters and what the networks carry besides, each keyed by network.
        loss_and_grad: ``(params, model_state, batch, key, step) -> ((loss, (metrics, model_state)),
            grads)``, as ``jax.value_and_grad(loss_fn, has_aux=True)`` gives. ``step`` is the number
            of training steps taken, for warm-ups of weights. The network state that comes back is
            kept, whether or not the optimiser acts in this step; a loss without any returns what
            it was given. A family whose parameters follow different objectives brings gradients of
            its own.
        optimizer: Optimiser of all parameters together, or what makes it
            (:data:`~genjax.families.base.Optimizer`).
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1), or
            that in the update that leads to a step with so many examples, ``(step, batch_size)``,
            as of :class:`~genjax.families.averages.Average`. The average starts at the initial
            parameters, without bias correction.
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts. The
            parameters and their average stand still in between.
        project: Where parameters are after each update, such as in an interval; None for anywhere.

    Returns:
        ``init`` and ``train_step``. The metrics are those of ``loss_and_grad`` with ``loss`` and
        ``grad_norm``, the global norm of this batch's gradient.

    Raises:
        ValueError: If ``ema_decay`` is not in [0, 1) or ``accumulate_steps`` not positive.
    """
    if not callable(ema_decay) and not 0.0 <= ema_decay < 1.0:
        raise ValueError(f"ema_decay must be in [0, 1), got {ema_decay}")
    if accumulate_steps < 1:
        raise ValueError(f"accumulate_steps must be at least 1, got {accumulate_steps}")
    acting = make_optimizer(optimizer, Acts(updates_per_step=1.0 / accumulate_steps))
    if accumulate_steps > 1:
        acting = optax.MultiSteps(
            acting, every_k_schedule=accumulate_steps
        ).gradient_transformation()

    def init(key: PRNGKeyArray, batch: Batch) -> TrainState:
        params, model_state = init_model(key, batch)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state={"model": acting.init(params)},
            model_state=model_state,
            # A copy: the state is donated, and two of its leaves may not share a buffer.
            ema=jax.tree.map(jnp.copy, params),
        )

    def train_step(
        state: TrainState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[TrainState, Metrics]:
        (loss, (metrics, kept)), grads = loss_and_grad(
            state.params, state.model_state, batch, key, state.step
        )
        loss, metrics, grads = average((loss, metrics, grads))
        updates, opt_state = acting.update(grads, state.opt_state["model"], state.params)
        params = optax.apply_updates(state.params, updates)
        if project is not None:
            params = project(params)
        step = state.step + 1
        # The average moves when the optimiser has: after every accumulate_steps-th step.
        axes = mapped_axes()
        rows = batch["x"].shape[0] * (jax.lax.psum(1, axes) if axes else 1)
        decay = (
            ema_decay(step // accumulate_steps, rows * accumulate_steps)
            if callable(ema_decay)
            else ema_decay
        )
        step_size = jnp.where(step % accumulate_steps == 0, 1.0 - decay, 0.0)
        state = state.replace(
            step=step,
            params=params,
            opt_state={"model": opt_state},
            model_state=average_changes(state.model_state, kept),
            ema=optax.incremental_update(params, state.ema, step_size),
        )
        return state, {**metrics, "loss": loss, "grad_norm": optax.global_norm(grads)}

    return init, train_step
