"""The compiled training step, and how batches come to it."""

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from genjax.data import ArraySource, Source, TrainBatches, iterate
from genjax.families.base import Family, TrainState
from genjax.training import mesh as meshes
from genjax.training.flops import primitives

Batch = Mapping[str, np.ndarray]
Fed: TypeAlias = Mapping[str, Any]


def init_state(family: Family, key: jax.Array, batch: Batch, mesh: Mesh) -> TrainState:
    """Makes the initial state on the mesh, in one compiled call."""
    on_mesh = meshes.global_batch(mesh, batch, family.batches_per_step)
    shapes = jax.eval_shape(family.init, key, on_mesh)
    init = jax.jit(family.init, out_shardings=meshes.state_sharding(shapes, mesh))
    # Run once: on CPUs it is compiled for longer than it runs.
    cpu = jax.default_backend() == "cpu"
    options: dict[str, Any] = {"xla_backend_optimization_level": 0} if cpu else {}
    with jax.set_mesh(mesh):
        return init.lower(key, on_mesh).compile(compiler_options=options)(key, on_mesh)


def state_template(shapes: TrainState, mesh: Mesh) -> TrainState:
    """Adds to the shapes of a state where its arrays live."""
    return jax.tree.map(_at, shapes, meshes.state_sharding(shapes, mesh))


def _at(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def compile_train_step(
    family: Family, state: TrainState, batch: Batch, key: jax.Array, mesh: Mesh
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, Any]]:
    """Compiles one training step on one batch; its key is ``fold_in(key, step)``."""
    on_mesh = meshes.global_batch(mesh, batch, family.batches_per_step)
    return lower_train_step(family, state, on_mesh, key, mesh).compile()


def lower_train_step(family: Family, state: Any, batch: Any, key: Any, mesh: Mesh) -> Any:
    """Traces the training step, of arrays or of their shapes, for a mesh.

    Args:
        family: The family.
        state: State on the mesh, or :func:`state_template`.
        batch: Global batch, or its shapes with their shardings.
        key: Key of the run, or its shape.
        mesh: The mesh.

    Returns:
        What ``jax.jit(...).lower`` returns.
    """
    return _lower(functools.partial(_one_step, family), state, batch, key, mesh)


def _one_step(
    family: Family, state: TrainState, batch: Any, key: jax.Array
) -> tuple[TrainState, Any]:
    return family.train_step(state, batch, jax.random.fold_in(key, state.step))


def _lower(step: Callable[..., Any], state: Any, fed: Any, key: Any, mesh: Mesh) -> Any:
    shardings = (meshes.state_sharding(state, mesh), meshes.replicated(mesh))
    jitted = jax.jit(step, donate_argnums=0, out_shardings=shardings)
    with jax.set_mesh(mesh):  # families may spread what they draw over it
        return jitted.lower(state, fed, key)


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

    def batch(self, fed: Fed, step: Any, i: Any) -> Any:
        """Traced: the batch of a step, the ``i``-th of its call."""
        ...

    def stop(self) -> None:
        """Lets go of what ``start`` began."""
        ...


def make_feed(
    batches: TrainBatches, mesh: Mesh, *, most: int = 1, device_limit_mib: int, num_workers: int = 0
) -> Feed:
    """The feed of a run: sets that fit are kept on each device, the others come batch by batch.

    Args:
        batches: This process's batches.
        mesh: The mesh.
        most: Most steps of a compiled call.
        device_limit_mib: Sets in memory of at most this many MiB are kept on each device.
        num_workers: Worker processes that decode sets not held in memory.
    """
    if resident_bytes(batches.source, device_limit_mib):
        return ResidentFeed(batches, mesh, most=most)
    return StreamedFeed(batches, mesh, most=most, num_workers=num_workers)


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

    def batch(self, fed: Fed, step: Any, i: Any) -> Any:
        """The batch of one step."""
        return fed["batches"] if self.most == 1 else jax.tree.map(lambda a: a[i], fed["batches"])

    def stop(self) -> None:
        """Stops reading ahead."""
        self._iterator.close()


_COMPILING = "compile"


def is_compiling() -> bool:
    """Whether training steps are being compiled, which Python waits for before it ends."""
    return any(thread.name == _COMPILING for thread in threading.enumerate())


class TrainingSteps:
    """Compiled calls of one or several training steps.

    Compilation starts at once, in a thread, so that the caller can load data and make or restore a
    state in the meantime; the first call waits for it. So does Python before it ends the
    process.

    Args:
        family: The family.
        template: Its :func:`state_template`.
        feed: Where batches come from; a call makes at most ``feed.most`` steps.
        key: Key of the run; each step folds its number in.
        mesh: Mesh of state and batches.
    """

    def __init__(
        self, family: Family, template: TrainState, feed: Feed, *, key: jax.Array, mesh: Mesh
    ):
        self.feed = feed
        self.key = meshes.put(key, meshes.replicated(mesh))
        self._compiled: Future[Any] = Future()

        def work() -> None:
            try:
                self._compiled.set_result(self._compile(family, template, mesh))
            except BaseException as error:
                self._compiled.set_exception(error)

        # No daemon: Python aborts the process where it ends while a daemon is inside the compiler.
        threading.Thread(target=work, name=_COMPILING).start()

    def start(self, first: int, stop: int) -> None:
        """The steps to come: ``first``, ..., ``stop - 1``."""
        self.feed.start(first, stop)

    def stop(self) -> None:
        """No more steps, until started again."""
        self.feed.stop()

    def take(self, count: int) -> Fed:
        """What a call needs to make the next ``count`` steps, at most ``feed.most``."""
        return self.feed.take(count)

    def __call__(self, state: TrainState, fed: Fed) -> tuple[TrainState, Mapping[str, jax.Array]]:
        """Makes the steps that ``fed`` was taken for.

        Args:
            state: State on the mesh; it is donated.
            fed: What :meth:`take` gave.

        Returns:
            The new state, and metrics, each ``[feed.most]``, of which as many count as there are
            steps.
        """
        compiled = self.compiled()
        with jax.transfer_guard("disallow"):
            return compiled(state, fed, self.key)

    def compiled(self) -> Any:
        """The compiled program, of state, what the feed gives, and key; waits for it."""
        return self._compiled.result()

    def _compile(self, family: Family, template: TrainState, mesh: Mesh) -> Any:
        feed = self.feed

        @functools.partial(jax.jit, inline=True)  # traced once, though it is called twice
        def one(state: TrainState, fed: Fed, key: jax.Array, i: Any) -> tuple[TrainState, Any]:
            return _one_step(family, state, feed.batch(fed, state.step, i), key)

        def steps(state: TrainState, fed: Fed, key: jax.Array) -> tuple[TrainState, Any]:
            if feed.most == 1:
                state, metrics = one(state, fed, key, 0)
                return state, jax.tree.map(lambda value: value[None], metrics)

            def body(i: Any, carry: tuple[TrainState, Any]) -> tuple[TrainState, Any]:
                state, rows = carry
                state, metrics = one(state, fed, key, i)
                return state, jax.tree.map(lambda row, value: row.at[i].set(value), rows, metrics)

            _, shapes = jax.eval_shape(one, state, fed, key, jnp.int32(0))
            rows = jax.tree.map(lambda leaf: jnp.zeros(feed.most, leaf.dtype), shapes)
            return jax.lax.fori_loop(0, fed["count"], body, (state, rows))

        return _lower(steps, template, feed.shapes(), self.key, mesh).compile()


def loops_well(family: Family, template: TrainState, batch: Any) -> bool:
    """Whether several steps may be looped over in one compiled program without loss of speed.

    XLA's CPU backend computes convolutions in loops many times slower than outside.

    Args:
        family: The family.
        template: Its state, or shapes.
        batch: A batch, or shapes.
    """
    if jax.default_backend() != "cpu":
        return True
    key = jax.eval_shape(lambda: jax.random.key(0))
    found = primitives(family.train_step, template, batch, key)
    return not any(name.startswith(("conv_general", "genjax_conv")) for name in found)
