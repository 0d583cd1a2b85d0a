"""How batches come to the compiled step: whole sets kept on the devices, or batch by batch."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from genjax.data import ArraySource, Augment, Source, TrainBatches, iterate, stream_name
from genjax.training import mesh as meshes

Fed: TypeAlias = Mapping[str, Any]

_AHEAD = 256
"""Steps whose numbers of rows go to the devices at once."""


def _spec(shape: tuple[int, ...], like: np.ndarray, sharding: NamedSharding) -> Any:
    dtype = jax.dtypes.canonicalize_dtype(like.dtype)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


class Feed(Protocol):
    """Brings the batches of consecutive steps to a compiled call of at most ``most`` steps."""

    most: int

    def start(self, first: int, stop: int) -> None:
        """The steps to come: ``first``, ..., ``stop - 1``."""
        ...

    def take(self, count: int) -> Fed:
        """What a call needs of the next ``count`` steps, on the mesh."""
        ...

    def shapes(self) -> Fed:
        """Shapes of what ``take`` gives, with their shardings."""
        ...

    def count(self, fed: Fed) -> Any:
        """Traced: number of steps of the call that ``fed`` was taken for."""
        ...

    def batch(self, fed: Fed, step: Any, i: Any) -> Any:
        """Traced: the batch of a step, the ``i``-th of its call."""
        ...

    def stop(self) -> None:
        """Lets go of what ``start`` began."""
        ...


def make_feed(
    streams: Mapping[str, TrainBatches],
    mesh: Mesh,
    *,
    most: int = 1,
    device_limit_mib: int,
    num_workers: int = 0,
    augment: Mapping[str, Augment] | None = None,
) -> Feed:
    """The feed of a run: sets that fit are kept on each device, the others come batch by batch.

    Args:
        streams: This process's batches of each stream; the first is called ``""``.
        mesh: The mesh.
        most: Most steps of a compiled call.
        device_limit_mib: Sets in memory of at most this many MiB are kept on each device.
        num_workers: Worker processes that decode sets not held in memory.
        augment: What is done to the batches of streams in the compiled step.

    Returns:
        The feed. Batches hold the features of all streams (:func:`genjax.data.stream_name`).
    """
    parts: dict[str, Feed] = {}
    for name, batches in streams.items():
        if resident_bytes(batches.source, device_limit_mib):
            parts[name] = ResidentFeed(batches, mesh, most=most)
        else:
            parts[name] = StreamedFeed(batches, mesh, most=most, num_workers=num_workers)
    if set(parts) == {""} and not augment:
        return parts[""]
    return JoinedFeed(parts, augment or {})


class JoinedFeed:
    """The feeds of several streams as one, with what is done to their batches in the step.

    Args:
        parts: Feeds by the names of their streams, all of the same ``most``.
        augment: What is done to the batches of streams.
    """

    def __init__(self, parts: Mapping[str, Feed], augment: Mapping[str, Augment]):
        self.most = next(iter(parts.values())).most
        self._parts = parts
        self._augment = augment

    def start(self, first: int, stop: int) -> None:
        """The steps to come."""
        for part in self._parts.values():
            part.start(first, stop)

    def take(self, count: int) -> Fed:
        """What each stream gives for the next steps."""
        return {name: part.take(count) for name, part in self._parts.items()}

    def shapes(self) -> Fed:
        """Shapes of what each stream gives."""
        return {name: part.shapes() for name, part in self._parts.items()}

    def count(self, fed: Fed) -> Any:
        """Traced: number of steps of a call."""
        name, part = next(iter(self._parts.items()))
        return part.count(fed[name])

    def batch(self, fed: Fed, step: Any, i: Any) -> Any:
        """The batches of all streams in one step, as one."""
        joined: dict[str, Any] = {}
        for name, part in self._parts.items():
            batch = part.batch(fed[name], step, i)
            if name in self._augment:
                batch = self._augment[name](batch, step)
            joined |= {stream_name(name, feature): rows for feature, rows in batch.items()}
        return joined

    def stop(self) -> None:
        """Stops all streams."""
        for part in self._parts.values():
            part.stop()


def resident_bytes(source: Source, device_limit_mib: int) -> int:
    """Bytes of a set that is kept whole on each device; 0 if it is not."""
    if not isinstance(source, ArraySource):
        return 0
    size = sum(array.nbytes for array in source.arrays.values())
    return size if size <= device_limit_mib * 2**20 else 0


class ResidentFeed:
    """The whole set on each device; the compiled call picks its rows.

    Args:
        batches: Batches of a set in memory. All processes must hold the same set.
        mesh: The mesh.
        most: Most steps of a call.
    """

    def __init__(self, batches: TrainBatches, mesh: Mesh, *, most: int = 1):
        self.most = most
        self._mesh = mesh
        # Every process knows the rows of all; each device gets the numbers of its own.
        self._batches = TrainBatches(
            batches.source,
            batches.batch_size,
            seed=batches.seed,
            batches_per_step=batches.batches_per_step,
        )
        count = batches.batches_per_step
        self._lead = (count, batches.batch_size) if count > 1 else (batches.batch_size,)
        spec = meshes.by_row(mesh, count).spec
        self._by_row = NamedSharding(mesh, jax.sharding.PartitionSpec(None, *spec))
        self._ahead = -(-_AHEAD // most) * most
        self._arrays: Any = None
        self._rows: Any = None
        self._first: Any = None
        self._next, self._known = 0, range(0)
        self._counts: dict[int, jax.Array] = {}

    def start(self, first: int, stop: int) -> None:
        """Puts the set on the devices; ``first`` is the next step."""
        source: Any = self._batches.source
        self._arrays = meshes.put(source.arrays, meshes.replicated(self._mesh))
        self._next, self._known = first, range(0)

    def take(self, count: int) -> Fed:
        """Numbers of the rows of the next steps, which go to the devices for many at a time."""
        first, self._next = self._next, self._next + count
        if first not in self._known or first + count - 1 not in self._known:
            self._known = range(first, first + self._ahead)
            rows = self._batches.indices(first, self._ahead).astype(np.int32)
            self._rows = meshes.put(rows.reshape(self._ahead, *self._lead), self._by_row)
            self._first = meshes.put(np.int32(first), meshes.replicated(self._mesh))
        if count not in self._counts:
            self._counts[count] = meshes.put(np.int32(count), meshes.replicated(self._mesh))
        return {
            "arrays": self._arrays,
            "rows": self._rows,
            "first": self._first,
            "count": self._counts[count],
        }

    def shapes(self) -> Fed:
        """Shapes of the set and of the numbers of rows."""
        whole = meshes.replicated(self._mesh)
        source: Any = self._batches.source
        number = jax.ShapeDtypeStruct((), np.int32, sharding=whole)
        return {
            "arrays": {name: _spec(a.shape, a, whole) for name, a in source.arrays.items()},
            "rows": jax.ShapeDtypeStruct(
                (self._ahead, *self._lead), np.int32, sharding=self._by_row
            ),
            "first": number,
            "count": number,
        }

    def count(self, fed: Fed) -> Any:
        """Number of steps of a call."""
        return fed["count"]

    def batch(self, fed: Fed, step: Any, i: Any) -> Any:
        """The rows of one step."""
        rows = jax.lax.dynamic_index_in_dim(fed["rows"], step - fed["first"], keepdims=False)
        return {
            name: array.at[rows].get(mode="promise_in_bounds")
            for name, array in fed["arrays"].items()
        }

    def stop(self) -> None:
        """Takes the set off the devices."""
        self._arrays = self._rows = None


class StreamedFeed:
    """Batches from the host, read ahead; those of a call are stacked.

    Args:
        batches: Batches of this process.
        mesh: The mesh.
        most: Most steps of a call.
        num_workers: Worker processes that decode sets not held in memory.
    """

    def __init__(self, batches: TrainBatches, mesh: Mesh, *, most: int = 1, num_workers: int = 0):
        self.most = most
        self._batches = batches
        self._mesh = mesh
        self._num_workers = num_workers
        count = batches.batches_per_step
        self._stacked = (*([most] * (most > 1)), *([count] * (count > 1)))
        spec = meshes.by_row(mesh).spec
        lead = [None] * len(self._stacked)
        self._by_row = NamedSharding(mesh, jax.sharding.PartitionSpec(*lead, *spec))
        self._iterator = iterate(batches, 0, 0)

    def start(self, first: int, stop: int) -> None:
        """Where to read; the first batch taken starts to read ahead."""
        self._iterator = iterate(self._batches, first, stop, num_workers=self._num_workers)

    def take(self, count: int) -> Fed:
        """The next batches."""
        if self.most == 1:
            rows = next(self._iterator)
        else:
            taken = [next(self._iterator) for _ in range(count)]
            taken += taken[-1:] * (self.most - count)  # which nobody looks at
            rows = {name: np.stack([one[name] for one in taken]) for name in taken[0]}
        return {
            "batches": {
                name: jax.make_array_from_process_local_data(self._by_row, array)
                for name, array in rows.items()
            },
            "count": meshes.put(np.int32(count), meshes.replicated(self._mesh)),
        }

    def shapes(self) -> Fed:
        """Shapes of the batches of a call."""
        lead = (*self._stacked, self._batches.batch_size)
        one = self._batches.source.rows(np.zeros(1, int))
        return {
            "batches": {
                name: _spec((*lead, *rows.shape[1:]), rows, self._by_row)
                for name, rows in one.items()
            },
            "count": jax.ShapeDtypeStruct((), np.int32, sharding=meshes.replicated(self._mesh)),
        }

    def count(self, fed: Fed) -> Any:
        """Number of steps of a call."""
        return fed["count"]

    def batch(self, fed: Fed, step: Any, i: Any) -> Any:
        """The batch of one step."""
        return fed["batches"] if self.most == 1 else jax.tree.map(lambda a: a[i], fed["batches"])

    def stop(self) -> None:
        """Stops reading ahead."""
        self._iterator.close()
