"""The compiled training step."""

import functools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from genjax.devices import CONVOLUTIONS, rows_in_place
from genjax.families.base import Family, TrainState
from genjax.training import mesh as meshes
from genjax.training.feeds import Fed, Feed
from genjax.training.flops import primitives
from genjax.training.skipping import SKIPPED, count_skips

Batch = Mapping[str, np.ndarray]


def init_state(
    family: Family,
    key: jax.Array,
    batch: Mapping[str, Any],
    mesh: Mesh,
    given: Mapping[str, Any] | None = None,
) -> TrainState:
    """Makes the initial state on the mesh, in one compiled call.

    Args:
        family: The family.
        key: Key of the parameters.
        batch: This process's rows of the first batch.
        mesh: The mesh.
        given: Parts of the state's ``model_state`` that are known before.

    Returns:
        The state.
    """
    on_mesh = meshes.global_batch(mesh, batch, family.batches_per_step)
    with jax.set_mesh(mesh):  # as below, so that it is traced once
        shapes = jax.eval_shape(family.init, key, on_mesh)
    function: Any = family.init
    args: tuple[Any, ...] = (key, on_mesh)
    if given and family.init_with is not None:
        function = family.init_with
        args = (*args, meshes.put(dict(given), meshes.replicated(mesh)))
    init = jax.jit(function, out_shardings=meshes.state_sharding(shapes, mesh))
    # Run once: on CPUs it is compiled for longer than it runs.
    cpu = jax.default_backend() == "cpu"
    options: dict[str, Any] = {"xla_backend_optimization_level": 0} if cpu else {}
    with jax.set_mesh(mesh):
        return init.lower(*args).compile(compiler_options=options)(*args)


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
    new, metrics = family.train_step(state, batch, jax.random.fold_in(key, state.step))
    before, skips = count_skips(state.opt_state), count_skips(new.opt_state)
    if before is None or skips is None:
        return new, metrics
    return new, {**metrics, SKIPPED: (skips - before).astype(jnp.float32)}


def _lower(step: Callable[..., Any], state: Any, fed: Any, key: Any, mesh: Mesh) -> Any:
    # The state leaves as it came: without this the partitioner may choose another layout, and the
    # second step would be another program.
    shardings = (meshes.state_sharding(state, mesh), meshes.replicated(mesh))
    jitted = jax.jit(step, donate_argnums=0, out_shardings=shardings)
    # Families may spread what they draw over the mesh.
    with jax.set_mesh(mesh), rows_in_place(mesh):
        return jitted.lower(state, fed, key)


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
            return jax.lax.fori_loop(0, feed.count(fed), body, (state, rows))

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
    return not any(name.startswith(CONVOLUTIONS) for name in found)
