"""Contrastive models of images and texts: two networks to vectors that are compared."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from genjax import losses
from genjax.devices import own_key
from genjax.families.base import (
    Batch,
    Family,
    Metrics,
    ModelState,
    Optimizer,
    Params,
    PyTree,
    Step,
    TrainState,
    Variables,
    apply_any_in_training,
    init_network,
)
from genjax.families.classified import units_of
from genjax.families.minimizing import minimizing
from genjax.families.pairs import scores_of_pairs

SIMILARITY = "similarity"
"""Where among the parameters are what products of vectors are scaled and shifted by."""
MAX_LOG_SCALE = math.log(100.0)
"""The largest log-scale: beyond it the published models are unstable."""


def contrastive(
    *,
    image: nn.Module,
    text: nn.Module,
    optimizer: Optimizer,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    spec: Any,
    loss: Literal["softmax", "sigmoid"] = "softmax",
    soft_targets: bool = True,
    ema_decay: float = 0.99,
) -> Family:
    r"""Images and texts to vectors of unit length that are near each other where the two fit.

    The logit of image i and text j is :math:`e^s \langle I_i, T_j \rangle + b`. The log-scale s is
    learned, and after each update clipped to [0, log 100]; with ``loss="softmax"`` it begins at
    log(1/0.07) and there is no b, with ``"sigmoid"`` s begins at log 10 and b, learned, too, at
    -10. A row is compared with those of all devices, so that more devices with the same batch train
    the same model.

    Args:
        image: Module ``x -> vectors [B, D]``, of grey levels in [-1, 1] or real numbers.
        text: Module ``tokens [B, T] -> vectors [B, D]``. Neither divides by lengths.
        optimizer: Optimiser of all parameters together.
        event_shape: Shape of one example.
        num_levels: Number of grey levels; None for real-valued data.
        spec: Features of a batch, of which ``tokens`` are the captions.
        loss: ``"softmax"``: which text of the batch is the image's, and which image the text's
            (:func:`genjax.losses.contrastive_loss`); ``"sigmoid"``: of each pair whether it belongs
            together (:func:`genjax.losses.sigmoid_contrastive_loss`).
        soft_targets: Whether rows of the batch with one caption all belong to it. Else, as
            published, each is told apart from the others, which it cannot be.
        ema_decay: Decay of the moving average of the parameters, per optimiser step, in [0, 1).

    Returns:
        The family. Metrics of each row, in training and evaluation, are about the other rows of its
        batch, and depend on how many there are: ``contrastive_loss``; ``excess_loss``, which is
        what it is above its floor (:func:`genjax.losses.contrastive_floor`; 0 of sigmoids);
        ``text_at_1``, whether the row's caption is the nearest to its image of the distinct
        captions of the batch, ``text_rank``, how many of these are nearer or as near, and
        ``image_at_1``, whether the image that is nearest to the row's caption has this caption. (In
        evaluation, what the last batch is filled up with are rows of it, too.) Training logs the
        ``scale`` :math:`e^s`, and ``bias``. There is nothing to sample; ``embed`` gives the
        vectors.

    Raises:
        ValueError: If the data has no captions, or the loss is unknown.

    References:
        Radford et al., arXiv:2103.00020, sections 2.3 to 2.5.
        Zhai et al., arXiv:2303.15343, sections 3.2 and 3.3.
    """
    if "tokens" not in spec:
        raise ValueError(
            "a contrastive model needs captions: a feature 'tokens', as captioned_digits has; the "
            f"data has {', '.join(spec)}"
        )
    _start_of(loss)  # which says if it is unknown
    units = units_of(num_levels, None)
    nets = {"image": image, "text": text}

    def init_model(key: PRNGKeyArray, batch: Batch) -> tuple[Params, ModelState]:
        given = {"image": units.encode(batch["x"].reshape(-1, *event_shape))}
        given["text"] = batch["tokens"].reshape(-1, batch["tokens"].shape[-1])
        params: dict[str, PyTree] = {}
        kept: dict[str, PyTree] = {}
        for number, (name, net) in enumerate(nets.items()):
            params[name], state = init_network(net, jax.random.fold_in(key, number), given[name])
            if state:
                kept[name] = state
        return {**params, SIMILARITY: _start_of(loss)}, kept

    def loss_fn(
        params: Params, model_state: ModelState, batch: Batch, key: PRNGKeyArray, step: Step
    ) -> tuple[Array, tuple[Metrics, ModelState]]:
        del step
        given = {"image": units.encode(batch["x"]), "text": batch["tokens"]}
        kept, found = dict(model_state), {}
        for number, (name, net) in enumerate(nets.items()):
            rngs = {"dropout": own_key(jax.random.fold_in(key, number))}
            vectors, state = apply_any_in_training(
                net, params[name], kept.get(name, {}), given[name], rngs=rngs
            )
            found[name] = losses.unit_length(vectors)
            kept |= {name: state} if state else {}
        rows = scores_of_pairs(
            found["image"], found["text"], batch["tokens"], params[SIMILARITY],
            soft_targets=soft_targets,
        )  # fmt: skip
        means = {name: jnp.mean(values) for name, values in rows.items()}
        told = {"scale": jnp.exp(params[SIMILARITY]["log_scale"])}
        told |= {n: params[SIMILARITY][n] for n in ("bias",) if n in params[SIMILARITY]}
        return means["contrastive_loss"], ({**means, **told}, kept)

    init, train_step = minimizing(
        init_model=init_model,
        loss_and_grad=jax.value_and_grad(loss_fn, has_aux=True),
        optimizer=optimizer,
        ema_decay=ema_decay,
        project=_clipped,
    )

    def embed(variables: Variables, batch: Batch) -> Mapping[str, Array]:
        def of(name: str) -> PyTree:
            kept = variables["model_state"].get(name, {})
            return {"params": variables["ema"][name], **kept}

        made = {}
        if "x" in batch:
            made["embedding"] = image_embedding(image, of("image"), units.encode(batch["x"]))
        if "tokens" in batch:
            made["text_embedding"] = text_embedding(text, of("text"), batch["tokens"])
        return made

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        del key
        found = embed({"ema": state.ema, "model_state": state.model_state}, batch)
        return scores_of_pairs(
            found["embedding"], found["text_embedding"], batch["tokens"], state.ema[SIMILARITY],
            soft_targets=soft_targets,
        )  # fmt: skip

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        eval_protocol={"parameters": "moving average", "compared with": "rows of the same batch"},
        embed=embed,
    )


def clip(**kwargs: Any) -> Family:
    """Contrastive language-image pre-training: which of the batch's texts is an image's.

    Published with batches of 32,768, which make do without ``soft_targets``.

    Args:
        **kwargs: Arguments of :func:`contrastive`.

    Returns:
        The family.

    References:
        Radford et al., arXiv:2103.00020.
    """
    return contrastive(loss="softmax", **kwargs)


def siglip(**kwargs: Any) -> Family:
    """Contrastive pre-training by sigmoids: of each pair whether it belongs together.

    Args:
        **kwargs: Arguments of :func:`contrastive`.

    Returns:
        The family.

    References:
        Zhai et al., arXiv:2303.15343.
    """
    return contrastive(loss="sigmoid", **kwargs)


def image_embedding(
    net: nn.Module, variables: PyTree, x: Float[Array, "B *event"]
) -> Float[Array, "B D"]:
    """Images as vectors of unit length, by a network that may be one trained in another run.

    Args:
        net: Module ``x -> vectors``.
        variables: Its variables.
        x: Rows as the network takes them: grey levels in [-1, 1], ``[B, *event]``.

    Returns:
        Vectors, ``[B, D]``.
    """
    vectors: Any = net.apply(variables, x)
    return losses.unit_length(vectors)


def text_embedding(
    net: nn.Module, variables: PyTree, tokens: Int[Array, "B T"]
) -> Float[Array, "B D"]:
    """Texts as vectors of unit length, by a network that may be one trained in another run.

    Args:
        net: Module ``tokens -> vectors``.
        variables: Its variables.
        tokens: Texts, ``[B, T]``.

    Returns:
        Vectors, ``[B, D]``.
    """
    vectors: Any = net.apply(variables, tokens)
    return losses.unit_length(vectors)


def _start_of(loss: str) -> dict[str, Array]:
    """What products of vectors are scaled and shifted by at first."""
    if loss not in ("softmax", "sigmoid"):
        raise ValueError(f"loss must be 'softmax' or 'sigmoid', got {loss!r}")
    if loss == "softmax":
        return {"log_scale": jnp.asarray(math.log(1.0 / 0.07), jnp.float32)}
    return {"log_scale": jnp.asarray(math.log(10.0), jnp.float32), "bias": jnp.asarray(-10.0, "f4")}


def _clipped(params: Params) -> Params:
    """The parameters, the log-scale in [0, log 100]."""
    similarity = dict(params[SIMILARITY])
    similarity["log_scale"] = jnp.clip(similarity["log_scale"], 0.0, MAX_LOG_SCALE)
    return {**params, SIMILARITY: similarity}
