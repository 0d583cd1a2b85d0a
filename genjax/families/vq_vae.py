"""Autoencoders with discrete latents: VQ-VAE and FSQ, by a codebook or by rounding."""

import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import own_key
from genjax.families.base import (
    Batch,
    Family,
    FirstStage,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    PyTree,
    Samples,
    Step,
    TrainState,
    Variables,
    init_network,
)
from genjax.families.heads import ObservedFeatures, Vectors
from genjax.families.levels import Ends, Reals
from genjax.families.likelihood import density_metrics, likelihood_metrics
from genjax.families.minimizing import minimizing
from genjax.families.observations import Entries, Observation
from genjax.families.quantizers import Codebook, Quantized, Quantizer


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
    observation.check(num_levels)
    entries = Entries(event_shape[-1], num_levels)
    units = Reals() if num_levels is None else Ends(num_levels)
    num_dims = math.prod(event_shape)
    to_vectors = Vectors(encoder, quantizer.code_size)
    to_outputs = ObservedFeatures(
        decoder, event_shape, observation.num_outputs(entries), observation.num_shared
    )
    example = jax.ShapeDtypeStruct((1, *event_shape), jnp.float32)
    places = jax.eval_shape(
        lambda x: to_vectors.init_with_output(jax.random.key(0), x)[0], example
    ).shape[1:-1]
    uniform_nats = math.prod(places) * math.log(quantizer.num_codes)

    def vectors_of(params: Params, x: Array) -> Array:
        found = to_vectors.apply({"params": params["encoder"]}, units.encode(x))
        return cast(Array, found).reshape(-1, quantizer.code_size)

    def outputs_of(params: Params, vectors: Array) -> Array:
        grid = vectors.reshape(-1, *places, quantizer.code_size)
        return cast(Array, to_outputs.apply({"params": params["decoder"]}, grid))

    def quantized(params: Params, kept: Codebook, x: Array) -> Quantized:
        return quantizer.quantize(kept, vectors_of(params, x))

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        params, x = {}, batch["x"]
        params["encoder"], _ = init_network(to_vectors, jax.random.fold_in(key, 0), units.encode(x))
        grid = jnp.zeros((x.shape[0], *places, quantizer.code_size))
        params["decoder"], _ = init_network(to_outputs, jax.random.fold_in(key, 1), grid)
        vectors = vectors_of(params, x)
        return params, {"codebook": quantizer.init(jax.random.fold_in(key, 2), vectors)}

    def loss_fn(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        kept, rows = model_state["codebook"], batch["x"].shape[0]
        vectors = vectors_of(params, batch["x"])
        found = quantizer.quantize(kept, vectors)
        nats = observation.nats(batch["x"], outputs_of(params, found.vectors), entries)
        commitment = jnp.sum(found.commitment) / rows
        new = quantizer.update(kept, vectors, found.codes, key)
        metrics = {"reconstruction": jnp.mean(nats), "commitment": commitment, **usage(new)}
        return jnp.mean(nats) + commitment, (metrics, {**model_state, "codebook": new})

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss_fn, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        accumulate_steps=accumulate_steps,
    )

    def usage(kept: Codebook) -> dict[str, Array]:
        share = kept["usage"] / jnp.sum(kept["usage"])
        entropy = -jnp.sum(jax.scipy.special.xlogy(share, share))
        # In use: at least a tenth of what it would be if all were used alike.
        used = jnp.mean(share * quantizer.num_codes > 0.1)
        return {"codes_used": used, "codes_perplexity": jnp.exp(entropy)}

    def reconstruction(variables: Variables, batch: Batch, codes: Array) -> Array:
        vectors = quantizer.look_up(variables["model_state"]["codebook"], codes[..., 0])
        outputs = outputs_of(variables["ema"], vectors)
        return observation.nats(batch["x"], outputs, entries)

    def variables_of(state: TrainState) -> Variables:
        return {"ema": state.ema, "model_state": state.model_state}

    def codes_of(variables: Variables, batch: Batch, key: PRNGKeyArray) -> Array:
        kept = variables["model_state"]["codebook"]
        codes = quantized(variables["ema"], kept, batch["x"]).codes
        return codes.reshape(batch["x"].shape[0], *places, 1)

    def rows_of(variables: Variables, codes: Array, batch: Batch) -> Array:
        vectors = quantizer.look_up(variables["model_state"]["codebook"], codes[..., 0])
        return observation.centre(outputs_of(variables["ema"], vectors), entries)

    def nats_of(state: TrainState, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Array]:
        variables = variables_of(state)
        own = reconstruction(variables, batch, codes_of(variables, batch, key))
        return own, own + uniform_nats

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        own, bound = nats_of(state, batch, key)
        return {**likelihood_metrics(bound[None], num_dims), "reconstruction": own}

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        return -nats_of(state, batch, key)[1]

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        logits = jnp.log(jnp.maximum(state.model_state["codebook"]["usage"], 1e-30))
        shape = (batch["x"].shape[0], *places, 1)
        codes = jax.random.categorical(own_key(key), logits, shape=shape)
        return Samples(rows=rows_of(variables_of(state), codes, batch))

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        return codes_of(variables_of(state), batch, key)

    def decode(state: TrainState, latents: PyTree, batch: Batch) -> Array:
        return rows_of(variables_of(state), latents, batch)

    protocol: dict[str, Any] = {
        "density": f"lower bound, {quantizer.num_codes} codes alike at each of "
        f"{math.prod(places)} places",
        "parameters": "moving average" if ema_decay else "current",
    }
    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        encode=encode,
        decode=decode,
        first_stage=FirstStage(
            event_shape=(*places, 1),
            num_levels=quantizer.num_codes,
            encode=codes_of,
            decode=rows_of,
            nats=reconstruction,
        ),
        networks={"encoder": to_vectors, "decoder": to_outputs},
        eval_protocol=protocol,
        sample_protocol={"codes": "drawn independently; train a model of codes for samples"},
        density_metrics=density_metrics(
            num_dims, "bits_per_dim", in_nats=("loss", "nats", "reconstruction")
        ),
    )
