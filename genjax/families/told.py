"""What networks that denoise are told besides latents and noise: class labels, texts.

What is told is a feature of a batch, or a mapping of several: None, class ids ``[B]``, or
``{"tokens": [B, T], "label": [B]}``. Whole numbers of -1 and real numbers of 0 tell nothing.
"""

from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion.guidance import untold
from genjax.families.base import Batch, ModelState, Params, num_classes_of

Told: TypeAlias = Any
"""None, an array ``[B, ...]``, or a mapping of several."""

_COLLECTIONS = "collections"


def reads_of(net: nn.Module) -> tuple[str, ...]:
    """Features of a batch that a network is told: ``label`` of one that has classes."""
    own = getattr(net, "reads", None)
    if own is not None:
        return tuple(own)
    return () if num_classes_of(net) is None else ("label",)


def told_of(batch: Batch, reads: tuple[str, ...]) -> Told:
    """What a network is told of a batch.

    Args:
        batch: Its rows.
        reads: Names of the features, as :func:`reads_of` gives them.

    Returns:
        None without any, the class ids of ``label`` alone, and else a mapping.
    """
    if not reads:
        return None
    return batch["label"] if reads == ("label",) else {name: batch[name] for name in reads}


def first_told(batch: Batch, reads: tuple[str, ...]) -> Told:
    """What a network is told of the first row, to initialise it with."""
    return jax.tree.map(lambda a: a[:1], told_of(batch, reads))


def drop_told(key: PRNGKeyArray, told: Told, share: float) -> Told:
    """Leaves out what is told of some rows, so that one network learns both models.

    Args:
        key: Key of the choice.
        told: What is told, or None.
        share: Probability with which a row is told nothing, in [0, 1).

    Returns:
        The same, with -1 (of real numbers 0) in rows that are told nothing.

    References:
        Ho and Salimans, arXiv:2207.12598, algorithm 1.
    """
    leaves = jax.tree.leaves(told)
    if not leaves or not share:
        return told
    dropped = jax.random.uniform(key, leaves[0].shape[:1]) < share

    def chosen(one: Array, other: Array) -> Array:
        return jnp.where(dropped.reshape(-1, *(1,) * (one.ndim - 1)), other, one)

    return jax.tree.map(chosen, told, untold(told))


def with_collections(params: Params, model_state: ModelState) -> Params:
    """Parameters with what else networks have, such as the variables of a frozen part, beside them.

    Args:
        params: Parameters by network.
        model_state: Other collections by network.

    Returns:
        What :func:`variables_of` takes.
    """
    return {**params, _COLLECTIONS: model_state} if model_state else params


def variables_of(params: Params, name: str) -> dict[str, Any]:
    """The variables that a network is applied with.

    Args:
        params: Parameters by network, as :func:`with_collections` gives them.
        name: Name of the network.

    Returns:
        Collections by name.
    """
    others = params.get(_COLLECTIONS, {}).get(name, {})
    return {"params": params[name], **others}
