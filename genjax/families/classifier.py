"""Classifiers, whose features and decisions serve to evaluate generators."""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import Batch, Family, Metrics, TrainState, scale_levels
from genjax.families.minimizing import ModelState, Params, minimizing


def classifier(
    *,
    net: nn.Module,
    optimizer: optax.GradientTransformation,
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
        ema_decay: See :func:`~genjax.families.minimizing.minimizing`.

    Returns:
        The family. ``eval_step`` gives ``cross_entropy`` in nats and ``error`` (the share of wrong
        decisions). There is nothing to sample.
    """

    def logits_of(params: Params, x: Array) -> Array:
        scaled = scale_levels(x, num_levels)
        return cast(tuple[Array, Array], net.apply({"params": params["net"]}, scaled))[0]

    def scores(params: Params, batch: Batch) -> Metrics:
        logits = logits_of(params, batch["x"])
        return {
            "cross_entropy": optax.softmax_cross_entropy_with_integer_labels(
                logits, batch["label"]
            ),
            "error": (jnp.argmax(logits, axis=-1) != batch["label"]).astype(jnp.float32),
        }

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        del batch
        return {"net": net.init(key, jnp.zeros((1, *event_shape)))["params"]}, {}

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray
    ) -> tuple[Array, Metrics]:
        del model_state, key
        means = {name: jnp.mean(rows) for name, rows in scores(params, batch).items()}
        return means["cross_entropy"], means

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        del key
        return scores(state.ema, batch)

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        eval_protocol={"parameters": "moving average"},
    )
