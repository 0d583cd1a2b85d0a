"""What families do when they see one device's rows only, inside ``jax.shard_map`` or ``jax.pmap``.

Under ``jax.jit`` arrays are global: rows are kept spread over the mesh, and the other functions
here change nothing. Inside a mapped function rows, losses and gradients are those of one device:
means are then taken over devices, and random draws are told apart. No name of an axis is handed
down, so that families and networks are the same in both views, in this project's loop as in yours.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

T = TypeVar("T")

BATCH_AXES = ("data", "fsdp")
"""Axes of the mesh that rows of batches are spread over: all of them."""

CONVOLUTIONS = ("conv_general", "genjax_conv")
"""How the names of primitives begin that convolve: jax's own, and those of genjax's layers.

XLA's CPU backend is several times slower at them inside of loops and branches.
"""


_NESTED = contextvars.ContextVar("nested", default=False)


@contextlib.contextmanager
def nested() -> Iterator[None]:
    """What is traced in here runs in a branch or a loop: layers take forms that are fast there."""
    token = _NESTED.set(True)
    try:
        yield
    finally:
        _NESTED.reset(token)


def is_nested() -> bool:
    """Whether what is traced now is known to run in a branch or a loop.

    Example:
        >>> with nested():
        ...     is_nested()
        True
    """
    return _NESTED.get()


def mapped_axes() -> tuple[str, ...]:
    """Names of the axes that the function being traced is mapped over; none in the global view.

    Example:
        >>> mapped_axes()
        ()
        >>> show = jax.pmap(lambda x: print(mapped_axes()), axis_name="i")
        >>> jax.eval_shape(show, jax.numpy.ones(1))
        ('i',)
    """
    return tuple(jax.sharding.get_abstract_mesh().manual_axes)


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
    # A hint to the partitioner, which else copies what no sharded array leads to.
    mesh = jax.sharding.get_abstract_mesh()
    if mapped_axes():  # all rows here are this device's
        return x
    axes = tuple(name for name in BATCH_AXES if name in mesh.axis_names)
    if not axes or x.shape[0] % math.prod(mesh.shape[name] for name in axes):
        return x
    return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(axes))


def parts_of_rows(x: Array) -> int:
    """Into how many parts of equal size rows may be spread, for loops that go through each alone.

    A loop over an axis that is spread would bring all of it to every device.

    Args:
        x: Rows, ``[B, ...]``.

    Returns:
        The number of devices of the mesh of the rows, or in context; without a mesh that of all
        devices, and 1 where rows are one device's own.
    """
    if mapped_axes():
        return 1
    mesh = jax.typeof(x).sharding.mesh
    mesh = jax.sharding.get_abstract_mesh() if mesh.empty else mesh
    return jax.device_count() if mesh.empty else mesh.size


@contextlib.contextmanager
def rows_in_place(mesh: jax.sharding.Mesh) -> Iterator[None]:
    """What networks compute within here stays on the devices where its rows are.

    Where arrays of the state are spread over ``fsdp``, a layer's parameters have to meet the rows
    of all devices. The partitioner may gather the parameters, or the activations, which may be a
    thousand times as large. So outputs of modules are told to stay as batches are spread, which
    leaves it the parameters. What is not of rows, and without ``fsdp`` all, is left as it is.

    Args:
        mesh: The mesh.
    """
    if mesh.shape[BATCH_AXES[1]] == 1:
        yield
        return

    def stay(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        made = call(*args, **kwargs)
        if context.method_name != "__call__":
            return made
        return jax.tree.map(
            lambda x: spread_rows(x) if isinstance(x, jax.Array) and x.ndim > 1 else x, made
        )

    with nn.intercept_methods(stay):
        yield


def average(tree: T) -> T:
    """Means over devices of arrays that are means over a device's rows.

    Args:
        tree: Arrays, the same number of rows behind those of each device.

    Returns:
        The means over all rows, on every device.
    """
    axes = mapped_axes()
    return jax.lax.pmean(tree, axes) if axes else tree


def total(tree: T) -> T:
    """Sums over devices of arrays that are sums over a device's rows.

    Args:
        tree: Arrays.

    Returns:
        The sums over all rows, on every device.
    """
    axes = mapped_axes()
    return jax.lax.psum(tree, axes) if axes else tree


def gathered(rows: Array) -> Array:
    """The rows of all devices, in the order of the batch.

    Gradients flow back to the device that a row is of: the slope of the sum of all devices' losses.
    A loss of one device's rows against those of all, averaged over devices as :func:`average` does
    with its gradients, is therefore what one program over all rows computes. (A loss that each
    device computes of all rows would have its gradient multiplied by the number of devices.)

    Args:
        rows: Rows of this device, ``[B, ...]``.

    Returns:
        ``[N, ...]``; the rows themselves in the global view.
    """
    axes = mapped_axes()
    return jax.lax.all_gather(rows, axes, tiled=True) if axes else rows


def average_changes(old: Any, new: Any) -> Any:
    """What networks carry after a step, the same on all devices.

    Batch statistics, codebooks and the like are means over rows, so that their mean over devices
    is what one program over all rows computes; sums over rows have to be kept as means. Whole
    numbers are counted alike on all devices, and what has not been touched (the variables of a
    frozen part may be most of a state) is not sent around.

    Args:
        old: Network state before the step.
        new: Network state after it, of the same structure.

    Returns:
        The new state, its changed floating-point arrays averaged over devices.

    Raises:
        ValueError: If the two differ in structure, shapes or types: a compiled step cannot go on
            from a state of another shape.
    """

    def describe(tree: Any) -> dict[str, str]:
        return {
            jax.tree_util.keystr(path): f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
            for path, leaf in jax.tree.leaves_with_path(tree)
        }

    before, after = describe(old), describe(new)
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            raise ValueError(
                f"a loss must return the network state it was given, updated: {name} was "
                f"{before.get(name, 'absent')} and became {after.get(name, 'absent')}"
            )

    def one(a: Any, b: Any) -> Any:
        counts = not jnp.issubdtype(jnp.result_type(b), jnp.inexact)
        return b if a is b or counts else average(b)

    return jax.tree.map(one, old, new)


def largest(x: Array) -> Array:
    """The largest of the values that devices have."""
    axes = mapped_axes()
    return jax.lax.pmax(x, axes) if axes else x


def own_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """A key of this device, from one that all share, for draws of one a row.

    Args:
        key: The same on all devices.

    Returns:
        The key itself in the global view, in which a draw has all rows.
    """
    axes = mapped_axes()
    return jax.random.fold_in(key, jax.lax.axis_index(axes)) if axes else key
