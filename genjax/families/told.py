"""What networks that denoise are told besides latents and noise: class labels, texts.

What is told is a feature of a batch, or a mapping of several: None, class ids ``[B]``, or
``{"tokens": [B, T], "label": [B]}``. Whole numbers of -1 and real numbers of 0 tell nothing.

A network may have something to say of that: ``reads`` names the features, ``keeps`` those of them
that it is told in any case, and ``prepare(told, keys, training=...)`` makes of a mapping what is
told in all calls that belong together, such as the steps of a sampler.
"""

from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion.guidance import Always, is_always, untold
from genjax.families.base import Batch, ModelState, Params, num_classes_of
from genjax.families.draws import keys_by_example

Told: TypeAlias = Any
"""None, an array ``[B, ...]``, or a mapping of several."""

_COLLECTIONS = "collections"
_OWN = 0x746F6C64
"""Sets keys of what is told apart from others; no position in a data set."""


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


def optional_of(net: nn.Module) -> tuple[str, ...]:
    """Features among those of :func:`reads_of` that a network can do without."""
    keeps = getattr(net, "keeps", ())
    return tuple(name for name in reads_of(net) if name not in keeps)


def tell(net: nn.Module, batch: Batch, key: PRNGKeyArray | None, *, training: bool = False) -> Told:
    """What a network is told of a batch, once for all that is asked about it.

    Args:
        net: The network.
        batch: The rows. Outside of training what is drawn for a row that has an ``index`` depends
            on that and the key alone.
        key: Key of what the network draws, such as noise on an image that it is told; read if the
            network draws anything. None to draw the same for all rows wherever they stand, so that
            on the way from rows to latents and on the way back the same is told.
        training: Whether it is in a training step.

    Returns:
        What families hand on to :func:`heard`.
    """
    reads = reads_of(net)
    told = told_of(batch, reads)
    prepare = getattr(net, "prepare", None)
    if prepare is not None:
        count = len(batch[reads[0]])
        own = jax.random.fold_in(jax.random.key(0) if key is None else key, _OWN)
        if key is None:
            keys = jnp.broadcast_to(own, (count,))
        elif "index" in batch and not training:
            keys = keys_by_example(own, batch["index"])
        else:
            keys = jax.random.split(own, count)
        told = prepare(told, keys, training=training)
    optional = optional_of(net)
    if optional == reads:
        return told
    return {name: value if name in optional else Always(value) for name, value in told.items()}


def heard(told: Told) -> Told:
    """What a network is called with: what is told, whether always or not."""
    return jax.tree.map(lambda a: a.value if is_always(a) else a, told, is_leaf=is_always)


def first_told(net: nn.Module, batch: Batch) -> Told:
    """What a network is called with for the first row, to initialise it."""
    row = {name: batch[name][:1] for name in reads_of(net)}
    return heard(tell(net, row, None))


def drop_told(key: PRNGKeyArray, told: Told, share: float) -> Told:
    """Leaves out what is told of some rows, so that one network learns both models.

    Args:
        key: Key of the choice.
        told: What is told, or None.
        share: Probability with which a row is told nothing, in [0, 1).

    Returns:
        The same, with -1 (of real numbers 0) in rows that are told nothing but what is told always.

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
