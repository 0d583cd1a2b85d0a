"""What every family of models offers to the training loop."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import mapped_axes

PyTree: TypeAlias = Any
Batch: TypeAlias = Mapping[str, Array]
"""``x`` ``[B, *event]`` (integer grey levels or real numbers), ``label`` ``[B]`` where the data has
class labels, ``index`` ``[B]`` (position in the data set) in evaluation."""
Metrics: TypeAlias = Mapping[str, Array]


def scale_levels(levels: Array, num_levels: int) -> Array:
    """Grey levels to [-1, 1], both ends reached, float32: what GANs and classifiers see."""
    return levels.astype(jnp.float32) * (2.0 / (num_levels - 1)) - 1.0


def as_levels(values: Array, num_levels: int) -> Array:
    """Whole numbers in floating point to grey levels: clipped to the range, of a whole type."""
    dtype = jnp.uint8 if num_levels <= 256 else jnp.int32
    return jnp.clip(values, 0, num_levels - 1).astype(dtype)


def spread_rows(x: Array) -> Array:
    """Spreads rows drawn inside a step over the mesh, as rows of batches are.

    Noise that never meets a batch (latents) would otherwise be computed whole on every device. The
    values do not change. Without a mesh in context, or where its size does not divide the rows,
    nothing happens.

    Args:
        x: Rows, ``[B, ...]``.

    Returns:
        The same rows.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mapped_axes():  # all rows here are this device's
        return x
    axes = tuple(name for name in ("data", "fsdp") if name in mesh.axis_names)
    if not axes or x.shape[0] % math.prod(mesh.shape[name] for name in axes):
        return x
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(axes))


class TrainState(struct.PyTreeNode):
    """All a run needs to resume.

    Attributes:
        step: Number of training steps taken, int32 ``[]``.
        params: Parameters, keyed by network.
        opt_state: Optimiser states, keyed by player: ``model``, or ``generator`` and ``critic``.
        model_state: What networks carry besides parameters (batch statistics...), keyed by network.
        ema: Moving averages of parameters, keyed by network; read by ``eval_step`` and ``sample``.
    """

    step: Array
    params: Mapping[str, PyTree]
    opt_state: Mapping[str, PyTree]
    model_state: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Pure functions over global arrays: jittable, not jitted; no config, no I/O.

    ``train_step`` may also be mapped over devices (``jax.shard_map``, ``jax.pmap``), each with its
    rows, the whole state and the same key; it then averages over them (:mod:`genjax.devices`).

    Attributes:
        init: Makes the state before the first step from the run's first batch; layers that start
            from the data's statistics read its values, all else only its shapes.
        train_step: One step; scalars as metrics. The loop stops on a non-finite one.
        eval_protocol: What must be said beside a number: which bound it is, how many draws it took,
            which parameters.
        eval_step: Metrics of each example, every leaf ``[B]``; the same key for a whole pass.
            Draws are keyed by ``batch["index"]``, so that they do not depend on the batch size.
            None for models without a score of single examples.
        sample: Draws ``samples``, one a row of the batch, from which it takes labels or source
            images if the model is conditional. Other entries are pictures of how the samples came
            about, such as ``trajectory`` ``[F, B', *event]``, or of the density of points of the
            plane (``density`` ``[G, G]`` over ``[-density_reach, density_reach]``). None for what
            generates nothing.
        batches_per_step: Batches that ``train_step`` takes. If more than one, the leaves of its
            batch are ``[batches_per_step, B, ...]``.
        curves: Named curves ``(x, y)`` of the state that are worth a picture.
        diagnose: Lines of warning about logged means of metrics of training, without prefix.
    """

    init: Callable[[PRNGKeyArray, Batch], TrainState]
    train_step: Callable[[TrainState, Batch, PRNGKeyArray], tuple[TrainState, Metrics]]
    eval_protocol: Mapping[str, str | int | float]
    eval_step: Callable[[TrainState, Batch, PRNGKeyArray], Metrics] | None = None
    sample: Callable[[TrainState, PRNGKeyArray, Batch], Mapping[str, Array]] | None = None
    batches_per_step: int = 1
    curves: Callable[[TrainState], Mapping[str, tuple[Array, Array]]] | None = None
    diagnose: Callable[[Mapping[str, float]], Sequence[str]] | None = None
