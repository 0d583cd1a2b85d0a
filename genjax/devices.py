"""What families do when they see one device's rows only, inside ``jax.shard_map`` or ``jax.pmap``.

Under ``jax.jit`` arrays are global and the functions here change nothing. Inside a mapped function
rows, losses and gradients are those of one device: means are then taken over devices, and random
draws are told apart. No name of an axis is handed down, so that families and networks are the same
in both views, in this project's loop as in yours.
"""

from typing import TypeVar

import jax
from jaxtyping import Array, PRNGKeyArray

T = TypeVar("T")


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


def average(tree: T) -> T:
    """Means over devices of arrays that are means over a device's rows.

    Args:
        tree: Arrays, the same number of rows behind those of each device.

    Returns:
        The means over all rows, on every device.
    """
    axes = mapped_axes()
    return jax.lax.pmean(tree, axes) if axes else tree


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
