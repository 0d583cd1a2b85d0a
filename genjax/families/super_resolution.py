"""Images of a high resolution from images of a low one, by the least error: no adversary."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    Samples,
    Step,
    TrainState,
    init_network,
)
from genjax.families.gan.content import HINT, Distance, distance_between
from genjax.families.gan.translation import (
    Side,
    check_translator,
    feature_of,
    translated_in_training,
)
from genjax.families.minimizing import minimizing


def super_resolution(
    *,
    net: nn.Module,
    optimizer: Optimizer,
    spec: Mapping[str, Any],
    distance: Distance = "l2",
    ema_decay: float = 0.999,
    accumulate_steps: int = 1,
) -> Family:
    r"""A network that makes ``x`` of ``source`` with the least mean error of pixels.

    .. math:: \mathbb{E}\, |G(source) - x|^p

    Its optimum is the mean (``"l2"``) or the median (``"l1"``) of all images that a source may come
    of: the highest PSNR there is, and no texture. Grey levels are scaled to [-1, 1].
    :func:`~genjax.families.srgan` goes on from such a network.

    Args:
        net: Module ``(source, train=...) -> rows``.
        optimizer: Its optimiser. Published with Adam at 1e-4 for 10^6 steps of 16 crops.
        spec: Features of the data; ``x`` and ``source`` are read.
        distance: ``"l2"`` for squared errors, ``"l1"`` for absolute ones.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.

    Returns:
        The family. ``eval_step`` gives errors of enlarged images to the truth.

    Raises:
        ValueError: If an argument is out of range, or network and data do not fit each other.

    References:
        Ledig et al., arXiv:1609.04802, eq. 4 and section 3.2: SRResNet.
    """
    source, target = Side.of(feature_of(spec, "source", HINT)), Side.of(spec["x"])
    measure = distance_between(distance)
    check_translator(net, source, target, "network")

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        del batch
        params, state = init_network(net, key, source.example())
        return {"net": params}, {"net": state} if state else {}

    def loss(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        del step
        made, kept = translated_in_training(
            net,
            params["net"],
            model_state.get("net", {}),
            source.units.encode(batch["source"]),
            key,
        )
        value = jnp.mean(measure(made, target.units.encode(batch["x"])))
        return value, ({}, {**model_state, "net": kept} if kept else model_state)

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def enlarged(state: TrainState, batch: Batch) -> Array:
        variables = {"params": state.ema["net"], **state.model_state.get("net", {})}
        return jnp.asarray(net.apply(variables, source.units.encode(batch["source"])))

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        del key  # nothing is drawn
        return Samples(rows=target.units.decode(enlarged(state, batch)))

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        del key
        return target.errors(enlarged(state, batch), batch["x"])

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        eval_protocol={"parameters": "moving average"},
        reads=("source",),
    )
