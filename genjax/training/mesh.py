"""Where arrays live: a mesh over all devices with the batch spread over it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
    """A one-dimensional mesh named ``data`` over the devices of all processes."""
    return Mesh(np.asarray(jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def by_row(mesh: Mesh, batches: int = 1) -> NamedSharding:
    """Devices hold consecutive rows: of the first axis, or of the second of stacked batches."""
    return NamedSharding(mesh, PartitionSpec(*([None] * (batches > 1)), "data"))


def global_batch(
    mesh: Mesh, local: Mapping[str, np.ndarray], batches: int = 1
) -> dict[str, jax.Array]:
    """Joins the rows of all processes into global arrays, spread over the mesh by row."""
    sharding = by_row(mesh, batches)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in local.items()
    }


def to_host(tree: Any) -> Any:
    """Fetches global arrays whole, on every process."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.device_get(tree)
