"""Classifiers, whose features and decisions serve to evaluate generators."""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Step,
    TrainState,
    init_network,
)
from genjax.families.levels import Ends
from genjax.families.minimizing import minimizing
from genjax.losses.arrays import check_same_shape, widened


def classifier(
    *,
    net: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int,
    ema_decay: float = 0.99,
) -> Family:
    """Classifier of images, trained on cross-entropy.

    Args:
        net: Module ``images -> (logits, features)``; images are scaled to [-1, 1].
        optimizer: Its optimiser.
        event_shape: Shape of one example.
        num_levels: Number of grey levels.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).

    Returns:
        The family. ``eval_step`` gives ``cross_entropy`` in nats and ``error`` (the share of wrong
        decisions). There is nothing to sample.
    """
    units = Ends(num_levels)

    def scores(params: Params, model_state: ModelState, batch: Batch) -> Metrics:
        variables = {"params": params["net"], **model_state.get("net", {})}
        logits, _ = cast(tuple[Array, Array], net.apply(variables, units.encode(batch["x"])))
        logits, label = widened(logits), batch["label"]
        decision = jnp.argmax(logits, axis=-1)
        check_same_shape(decision=decision, label=label)
        return {
            "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(logits, label),
            "error": (decision != label).astype(jnp.float32),
        }

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        del batch
        params, state = init_network(net, key, jnp.zeros((1, *event_shape)))
        return {"net": params}, {"net": state} if state else {}

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        del key, step
        means = {name: jnp.mean(rows) for name, rows in scores(params, model_state, batch).items()}
        return means["cross_entropy"], (means, model_state)

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        del key
        return scores(state.ema, state.model_state, batch)

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        eval_protocol={"parameters": "moving average"},
    )
