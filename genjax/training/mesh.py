"""Where arrays live: a mesh over all devices, the batch spread over it, the state as it fits."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from genjax.devices import BATCH_AXES
from genjax.families.base import Family


def make_mesh(*, fsdp: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of axes ``data`` and ``fsdp``.

    Rows of batches are spread over both. Large arrays of the state are spread over ``fsdp`` and
    copied along ``data``.

    Args:
        fsdp: Size of the axis ``fsdp``; must divide the number of devices.
        devices: Devices in the order of the rows; those of all processes if None.

    Returns:
        The mesh, ``[devices / fsdp, fsdp]``.

    Raises:
        ValueError: If the size does not fit.
    """
    devices = jax.devices() if devices is None else devices
    if fsdp < 1 or len(devices) % fsdp:
        raise ValueError(f"fsdp must divide the {len(devices)} devices, got {fsdp}")
    return Mesh(np.asarray(devices).reshape(-1, fsdp), BATCH_AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh, batches: int = 1) -> NamedSharding:
    """Devices hold consecutive rows: of the first axis, or of the second of stacked batches."""
    return NamedSharding(mesh, PartitionSpec(*([None] * (batches > 1)), BATCH_AXES))


def state_sharding(shapes: Any, mesh: Mesh, *, min_size: int = 2**14) -> Any:
    """Where each array of a state lives.

    Arrays of at least ``min_size`` entries are spread over ``fsdp`` along their largest dimension
    that it divides (the last of several); the others are whole on every device.

    Args:
        shapes: Tree of anything with a ``shape``.
        mesh: The mesh.
        min_size: Smallest number of entries worth spreading.

    Returns:
        A tree of shardings.

    References:
        Fully sharded data parallelism: Rajbhandari et al., ZeRO, arXiv:1910.02054, stage 3.
    """
    *_, axis = BATCH_AXES
    fsdp = mesh.shape[axis]

    def of(leaf: Any) -> NamedSharding:
        divisible = [i for i, size in enumerate(leaf.shape) if size % fsdp == 0]
        if fsdp == 1 or not divisible or math.prod(leaf.shape) < min_size:
            return replicated(mesh)
        largest = max(divisible, key=lambda i: (leaf.shape[i], i))
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, axis))

    return jax.tree.map(of, shapes)


def per_device(family: Family, mesh: Mesh) -> Family:
    """The family with its training step mapped over devices, as ``jax.pmap`` does.

    Each device has its rows, the whole state and the key; families average gradients, metrics and
    batch statistics over devices and draw noise of their own for each. It is ``jax.shard_map``
    (which is what ``jax.pmap`` is made of), so that states, batches and checkpoints are the global
    arrays of the other strategy.

    Args:
        family: The family.
        mesh: The mesh, whose ``fsdp`` axis has size 1: states are whole on each device.

    Returns:
        The family.
    """
    everywhere = PartitionSpec()
    mapped = jax.shard_map(
        family.train_step,
        mesh=mesh,
        in_specs=(everywhere, by_row(mesh, family.batches_per_step).spec, everywhere),
        out_specs=(everywhere, everywhere),
        check_vma=False,  # gradients are a device's own, until the family averages them
    )
    return dataclasses.replace(family, train_step=mapped)


def filled_up(size: int, mesh: Mesh) -> int:
    """The least number of rows, at least ``size``, that the devices divide."""
    return -(-size // mesh.size) * mesh.size


def global_batch(
    mesh: Mesh, local: Mapping[str, np.ndarray], batches: int = 1
) -> dict[str, jax.Array]:
    """Joins the rows of all processes into global arrays, spread over the mesh by row."""
    sharding = by_row(mesh, batches)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in local.items()
    }


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Places what every process knows whole (keys, requests of samples) on a mesh."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def one(leaf: Any) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree)


def to_host(tree: Any) -> Any:
    """Fetches global arrays whole, on every process."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)


def leaf_name(path: Any) -> str:
    """The name of a leaf in messages and checkpoints, such as ``params/critic/dense/kernel``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
