"""Autoencoders with discrete latents: VQ-VAE and FSQ, by a codebook or by rounding."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    Optimizer,
    PyTree,
    Samples,
    TrainState,
    Variables,
)
from genjax.families.code_model import CodeModel
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.minimizing import minimizing
from genjax.families.observations import Observation
from genjax.families.quantizers import Quantizer


def vq_vae(
    *,
    encoder: nn.Module,
    decoder: nn.Module,
    quantizer: Quantizer,
    observation: Observation,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    ema_decay: float = 0.0,
    accumulate_steps: int = 1,
) -> Family:
    r"""Autoencoder whose latents are codes: the first stage of a model of data.

    An encoder gives a vector at each place of a coarse grid, a quantizer makes codes of them, and a
    decoder gives the distribution of data for the vectors of codes. Gradients pass the quantizer as
    if it were not there. The bound on the likelihood includes what the codes cost,
    :math:`-\log p(x|c) - \log p(c)`: here under a uniform distribution of codes, and less under one
    that is trained on them (``data.first_stage`` of a second run).

    Args:
        encoder: Module ``x -> features [B, *places, F]`` of images in [-1, 1] or real numbers.
        decoder: Module ``vectors [B, *places, D] -> features`` of the example or of its places.
        quantizer: Vectors to codes and back.
        observation: The distribution of data at each place.
        optimizer: Optimiser of all parameters together. A codebook has none.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).
        accumulate_steps: Steps whose gradients are averaged before the optimiser acts.

    Returns:
        The family. ``encode`` gives codes ``[B, *places, 1]``. Training logs the share of codes in
        use and their perplexity, of running shares over about a hundred steps. Samples are of codes
        drawn independently by these shares, which show what codes stand for, and no more.

    Raises:
        ValueError: If the observation is not of such data.

    References:
        van den Oord et al., Neural Discrete Representation Learning, arXiv:1711.00937.
    """
    model = CodeModel(
        encoder=encoder,
        decoder=decoder,
        quantizer=quantizer,
        observation=observation,
        event_shape=event_shape,
        num_levels=num_levels,
    )
    init, train_step = minimizing(
        init_model=model.init,
        loss_and_grad=jax.value_and_grad(model.loss, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )
    return code_family(model, init, train_step, averaged=ema_decay > 0.0)


def code_family(
    model: CodeModel,
    init: Callable[[PRNGKeyArray, Batch], TrainState],
    train_step: Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]],
    *,
    averaged: bool,
) -> Family:
    """What a model of codes says and makes, however it is trained.

    Args:
        model: The model.
        init: Makes the state, whose ``ema`` has ``encoder`` and ``decoder`` and whose
            ``model_state`` has ``codebook``.
        train_step: One step.
        averaged: Whether the parameters have a moving average.

    Returns:
        The family.

    Raises:
        ValueError: If the observation is not of such data.
    """
    model.observation.check(model.num_levels)
    quantizer = model.quantizer

    def variables_of(state: TrainState) -> Variables:
        return {"ema": state.ema, "model_state": state.model_state}

    def nats_of(state: TrainState, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Array]:
        variables = variables_of(state)
        own = model.nats(variables, batch, model.codes(variables, batch, key))
        return own, own + model.uniform_nats

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        own, bound = nats_of(state, batch, key)
        return {**likelihood_metrics(bound[None], model.num_dims), "reconstruction": own}

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return -nats_of(state, batch, key)[1]

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        logits = jnp.log(jnp.maximum(state.model_state["codebook"]["usage"], 1e-30))
        shape = (batch["x"].shape[0], *model.places, 1)
        codes = jax.random.categorical(own_key(key), logits, shape=shape)
        return Samples(rows=model.rows(variables_of(state), codes, batch))

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        return model.codes(variables_of(state), batch, key)

    def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
        return model.rows(variables_of(state), latents, batch)

    def reconstruct(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return decode(state, encode(state, batch, key), batch)

    protocol: dict[str, Any] = {
        "density": f"lower bound, {quantizer.num_codes} codes alike at each of "
        f"{math.prod(model.places)} places",
        "parameters": "moving average" if averaged else "current",
    }
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        encode=encode,
        decode=decode,
        reconstruct=reconstruct,
        first_stage=model.first_stage(),
        networks={"encoder": model.to_vectors, "decoder": model.to_outputs},
        eval_protocol=protocol,
        sample_protocol={"codes": "drawn independently; train a model of codes for samples"},
        density_metrics=density_metrics(
            model.num_dims, "bits_per_dim", in_nats=("loss", "nats", "reconstruction")
        ),
    )
