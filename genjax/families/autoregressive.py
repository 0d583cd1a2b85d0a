"""Autoregressive models of images, tables, text and codes, by any causal network."""

import flax.linen as nn
import jax
from jaxtyping import Array, PRNGKeyArray

from genjax.families.autoregressive_imputing import filled_in
from genjax.families.autoregressive_model import AutoregressiveModel
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    Optimizer,
    Samples,
    TrainState,
)
from genjax.families.choosing import Choosing
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.minimizing import minimizing
from genjax.families.observations import Observation
from genjax.families.told import told_of


def autoregressive(
    *,
    net: nn.Module,
    observation: Observation,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    choosing: Choosing = Choosing(),
    label_dropout: float = 0.0,
    ema_decay: float = 0.999,
    accumulate_steps: int = 1,
) -> Family:
    r"""Autoregressive model, :math:`p(x) = \prod_i p(x_i | x_{<i})`, entries in raster order.

    A causal network sees an example once and says of each entry (or of the channels of each pixel
    together) how it is distributed given those before it.

    Args:
        net: Module ``(x, told) -> outputs [B, *places, num_outputs]``, of whole levels or real
            numbers, with fields ``num_levels`` and ``num_outputs``, which are set here, and an
            attribute ``by_pixel``: whether a place is a pixel or an entry. If it has
            ``num_classes``, the model is one of data given labels; if it has ``reads``, of data
            given those features of a batch.
        observation: The distribution at each place.
        optimizer: Its optimiser.
        event_shape: Shape of one example.
        num_levels: Number of levels; None for real-valued data.
        choosing: How entries are drawn from what the network says.
        label_dropout: Share of rows that are told nothing in training, in [0, 1).
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.

    Returns:
        The family. The likelihood is exact. Samples are exact, too: by a network with a cache one
        entry after the other, by others in as many passes as it takes until nothing changes.

    Raises:
        ValueError: If an argument is out of range, or does not fit the others.

    References:
        Larochelle and Murray, The Neural Autoregressive Distribution Estimator, 2011; van den Oord
        et al., arXiv:1601.06759.
    """
    model = AutoregressiveModel(
        net=net,
        observation=observation,
        event_shape=event_shape,
        num_levels=num_levels,
        choosing=choosing,
        label_dropout=label_dropout,
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=jax.value_and_grad(model.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        return likelihood_metrics(model.nats(state.ema, batch)[None], model.num_dims)

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return -model.nats(state.ema, batch)

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        told = told_of(batch, model.reads)
        return Samples(rows=model.sample(state.ema, key, told, batch["x"].shape[0]))

    def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
        return filled_in(model, state.ema, batch, key, num_steps)

    way = "entry by entry with a cache" if model.cached else (
        "all at once until nothing changes, at most one pass an entry"
    )  # fmt: skip
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        impute=impute,
        networks={"net": model.observed_net()},
        eval_protocol={
            "density": "exact",
            "parameters": "moving average" if ema_decay else "current",
        },
        reads=model.reads,
        unlabelled=model.reads if label_dropout else (),
        sample_protocol={"drawn": way + choosing.in_words()},
        density_metrics=density_metrics(model.num_dims, "bits_per_dim", in_nats=("loss", "nats")),
    )
