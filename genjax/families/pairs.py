"""How rows of images and of texts find each other by their vectors."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from genjax import losses
from genjax.devices import gathered, mapped_axes
from genjax.families.base import Metrics


def scores_of_pairs(
    image: Float[Array, "B D"],
    text: Float[Array, "B D"],
    tokens: Int[Array, "B T"],
    similarity: Mapping[str, Float[Array, ""]],
    *,
    soft_targets: bool = True,
) -> Metrics:
    """Loss and retrieval of each row among the rows of all devices.

    They are those of :func:`genjax.families.contrastive`.

    Args:
        image: Vectors of unit length of the images, ``[B, D]``.
        text: Those of the texts, ``[B, D]``.
        tokens: The texts, ``[B, T]``.
        similarity: ``log_scale``, and ``bias`` of a loss by sigmoids.
        soft_targets: Whether rows with one caption belong together.

    Returns:
        The metrics of each row, ``[B]``.

    Raises:
        ValueError: If the two kinds of vectors differ in length.
    """
    if image.shape != text.shape:
        raise ValueError(
            f"both networks must give vectors of one length, got images {list(image.shape)} and "
            f"texts {list(text.shape)}: set their embedding_size alike"
        )
    every_tokens = gathered(tokens)
    scale = jnp.exp(similarity["log_scale"])
    image_logits = scale * _products(image, gathered(text))
    text_logits = scale * _products(text, gathered(image))
    same = losses.same_captions(tokens, every_tokens)
    first = jax.lax.axis_index(axes) * len(tokens) if (axes := mapped_axes()) else 0
    own = first + jnp.arange(len(tokens))[:, None] == jnp.arange(len(every_tokens))
    together = same if soft_targets else own
    if "bias" in similarity:
        value = losses.sigmoid_contrastive_loss(image_logits + similarity["bias"], together)
        excess = value
    else:
        targets = losses.caption_targets(together)
        value = losses.contrastive_loss(image_logits, text_logits, targets)
        excess = value - losses.contrastive_floor(same)
    return {"contrastive_loss": value, "excess_loss": excess,
            **_retrieval(image_logits, text_logits, same, own, every_tokens)}  # fmt: skip


def _retrieval(
    image_logits: Float[Array, "B N"],
    text_logits: Float[Array, "B N"],
    same: Bool[Array, "B N"],
    own: Bool[Array, "B N"],
    tokens: Int[Array, "N T"],
) -> Metrics:
    """What is found by each row; equal logits count against it, so that equal vectors find none."""
    # A caption counts once, where it is first.
    before = jnp.tril(losses.same_captions(tokens, tokens), -1)
    others = ~same & ~jnp.any(before, axis=1)
    right = jnp.sum(jnp.where(own, image_logits, 0.0), axis=1, keepdims=True)
    rank = jnp.sum(others & ~(image_logits < right), axis=1)
    best = jnp.max(jnp.where(same, text_logits, -jnp.inf), axis=1, keepdims=True)
    missed = jnp.any(~same & ~(text_logits < best), axis=1)
    return {
        "text_rank": rank.astype(jnp.float32),
        "text_at_1": (rank == 0).astype(jnp.float32),
        "image_at_1": (~missed).astype(jnp.float32),
    }


def _products(rows: Float[Array, "B D"], others: Float[Array, "N D"]) -> Float[Array, "B N"]:
    """Inner products of all pairs, in full precision: they are scaled by up to 100."""
    return jnp.matmul(rows, others.T, precision=jax.lax.Precision.HIGHEST)
