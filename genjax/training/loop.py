"""The loop that trains every family."""

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from genjax.families.base import Family, TrainState
from genjax.training import mesh as meshes
from genjax.training.checkpoints import Checkpoints
from genjax.training.logs import MetricLog

Batch = Mapping[str, np.ndarray]


class NonFiniteError(RuntimeError):
    """A metric became NaN or infinite; the message names it and the step."""


class Preempted(RuntimeError):  # noqa: N818 - not an error
    """The run was asked to stop, has saved its state, and can be resumed."""


class StopRequested(Exception):  # noqa: N818 - not an error
    """Raised by an action that gives way to a request to stop; the run does it when resumed."""


@dataclasses.dataclass(frozen=True)
class Periods:
    """Steps between actions.

    Attributes:
        log: Between lines of the log.
        evaluate: Between evaluations, and one after the last step; 0 for never.
        sample: Between sample pictures, and one after the last step; 0 for never.
        checkpoint: Between checkpoints. One is also saved with each evaluation and at the end.
    """

    log: int
    evaluate: int
    sample: int
    checkpoint: int


def _due(period: int, step: int, num_steps: int) -> bool:
    return period > 0 and (step == num_steps or step % period == 0)


class Meters:
    """The metrics of each step, kept on the device until a window of them is logged.

    A window is fetched one window late, when its values have long been computed, so logging never
    waits for the device. Checking for non-finite values looks at every step.
    """

    def __init__(self, log_every: int, log: MetricLog, saved: Sequence[Any] = ()):
        self._log_every = log_every
        self._log = log
        self._window: list[tuple[int, Mapping[str, Any]]] = [(s, dict(m)) for s, m in saved]
        self._closed: list[tuple[int, Mapping[str, Any]]] = []
        self._clock = time.perf_counter()
        self._seconds = 0.0
        self._timed_steps = 0
        self._rate = 0.0
        self.latest: dict[str, float] = {}

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes in the metrics of the step that led to ``step``."""
        self._window.append((step, metrics))
        self._timed_steps += 1
        if self._log_every and step % self._log_every == 0:
            for value in metrics.values():
                value.copy_to_host_async()
            self._write_closed()
            self._seconds += time.perf_counter() - self._clock
            self._clock = time.perf_counter()
            self._rate = self._timed_steps / self._seconds
            self._seconds, self._timed_steps = 0.0, 0
            self._closed, self._window = self._window, []

    def flush(self) -> list[tuple[int, dict[str, float]]]:
        """Writes every closed window; returns the open one, checked, for the checkpoint."""
        self._write_closed()
        self._window = [(step, dict(m)) for step, m in self._fetch(self._window)]
        self._log.flush()
        return list(self._window)  # type: ignore[arg-type]

    def pause(self) -> Callable[[], None]:
        """Stops the clock of ``steps_per_second``; the returned function starts it again."""
        self._seconds += time.perf_counter() - self._clock

        def resume() -> None:
            self._clock = time.perf_counter()

        return resume

    def _fetch(
        self, window: Sequence[tuple[int, Mapping[str, Any]]]
    ) -> list[tuple[int, dict[str, float]]]:
        fetched = jax.device_get([metrics for _, metrics in window])
        rows = [
            (step, {name: float(value) for name, value in metrics.items()})
            for (step, _), metrics in zip(window, fetched, strict=True)
        ]
        for step, row in rows:
            # The loss first: what follows from it is not the news.
            for name in sorted(row, key=lambda name: name != "loss"):
                if not math.isfinite(row[name]):
                    raise NonFiniteError(
                        f"train/{name} is {row[name]} at step {step}: training stopped, the last "
                        f"checkpoint is intact. Lower the learning rate, clip gradients "
                        f"(the optimizer's clip_norm), or look at the batch of step {step - 1}."
                    )
        return rows

    def _write_closed(self) -> None:
        if not self._closed:
            return
        rows = self._fetch(self._closed)
        step = rows[-1][0]
        values = {
            f"train/{name}": math.fsum(row[name] for _, row in rows) / len(rows)
            for name in sorted(rows[-1][1])
        }
        values["train/steps_per_second"] = self._rate
        self._closed = []
        self.latest = values
        self._log.write(step, values)


def init_state(family: Family, key: jax.Array, batch: Batch, mesh: Mesh) -> TrainState:
    """Makes the initial state on the mesh, in one compiled call."""
    on_mesh = meshes.global_batch(mesh, batch, family.batches_per_step)
    shapes = jax.eval_shape(family.init, key, on_mesh)
    init = jax.jit(family.init, out_shardings=meshes.state_sharding(shapes, mesh))
    with jax.set_mesh(mesh):
        return init(key, on_mesh)


def state_template(shapes: TrainState, mesh: Mesh) -> TrainState:
    """Adds to the shapes of a state where its arrays live."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        meshes.state_sharding(shapes, mesh),
    )


def compile_train_step(
    family: Family, state: TrainState, batch: Batch, key: jax.Array, mesh: Mesh
) -> Callable[[TrainState, Any, jax.Array], tuple[TrainState, Any]]:
    """Compiles the training step ahead of time; its key is ``fold_in(key, step)``."""
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

    def step(state: TrainState, batch: Any, key: jax.Array) -> tuple[TrainState, Any]:
        return family.train_step(state, batch, jax.random.fold_in(key, state.step))

    shardings = (meshes.state_sharding(state, mesh), meshes.replicated(mesh))
    jitted = jax.jit(step, donate_argnums=0, out_shardings=shardings)
    with jax.set_mesh(mesh):  # families may spread what they draw over it
        return jitted.lower(state, batch, key)


def train(
    family: Family,
    state: TrainState,
    batches: Callable[[int, int], Iterator[Batch]],
    *,
    num_steps: int,
    key: jax.Array,
    mesh: Mesh,
    log: MetricLog,
    checkpoints: Checkpoints,
    periods: Periods,
    evaluate: Callable[[int, TrainState], Mapping[str, float]],
    sample: Callable[[int, TrainState], None],
    host_state: Mapping[str, Any] | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] = lambda step, latest: None,
    stop: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Trains from ``state.step`` to ``num_steps``.

    After each step, in this order and on the number of steps taken: log, evaluate, sample,
    checkpoint. A run that is stopped and resumed computes what an uninterrupted one computes, bit
    for bit, and logs the same. If a request to stop or an error comes before the checkpoint, the
    state is saved with a note of what is due, which the resumed run does first.

    Args:
        family: The family.
        state: State on the mesh; it is donated, so do not use it again.
        batches: ``(start, stop)`` to this process's rows of the batches of these steps.
        num_steps: Number of steps in all.
        key: Key of the run; each step folds its number in.
        mesh: Mesh the state lives on.
        log: Where metrics go.
        checkpoints: Where states go.
        periods: Steps between actions.
        evaluate: Called with step and state; returns metrics, which decide on the best checkpoint.
        sample: Called with step and state; writes pictures.
        host_state: What came with a restored state.
        on_step: Called after each step with the latest logged metrics, to show progress.
        stop: Asked once after each step, on all processes: whether to save and stop.

    Returns:
        The state after ``num_steps``.

    Raises:
        NonFiniteError: If a metric is not finite. No such state is ever saved.
        Preempted: If ``stop`` said so; the state is saved.
    """
    first = int(state.step)
    key = meshes.put(key, meshes.replicated(mesh))
    meters = Meters(periods.log, log, (host_state or {}).get("window", ()))

    def act(step: int, state: TrainState) -> None:
        """Evaluates, samples and saves as is due after ``step``."""
        evaluating = _due(periods.evaluate, step, num_steps)
        sampling = _due(periods.sample, step, num_steps)
        stopping = stop(step) and step < num_steps
        saving = evaluating or stopping or _due(periods.checkpoint, step, num_steps)
        if not (saving or sampling):
            return
        # No bad state is evaluated or saved, and a saved state has its log on disk.
        window = meters.flush()
        resume_clock = meters.pause()
        scores: Mapping[str, float] | None = None
        try:
            if stopping:
                raise StopRequested
            if evaluating:
                scores = evaluate(step, state)
            if sampling:
                sample(step, state)
        except BaseException as error:
            checkpoints.save(step, state, {"window": window}, actions_due=True)
            checkpoints.wait()
            if isinstance(error, StopRequested):
                message = f"stopped on request after step {step} of {num_steps}; state saved"
                raise Preempted(message) from None
            raise
        if saving:
            log.flush()
            checkpoints.save(step, state, {"window": window}, scores)
        resume_clock()

    if checkpoints.actions_due(first):
        act(first, state)
        checkpoints.actions_done()
    if first >= num_steps:
        checkpoints.wait()
        return state
    iterator = batches(first, num_steps)
    batch = next(iterator)
    train_step = compile_train_step(family, state, batch, key, mesh)
    for step in range(first + 1, num_steps + 1):
        on_mesh = meshes.global_batch(mesh, batch, family.batches_per_step)
        with jax.transfer_guard("disallow"):
            state, metrics = train_step(state, on_mesh, key)
        meters.add(step, metrics)
        if step < num_steps:
            batch = next(iterator)
        act(step, state)
        on_step(step, meters.latest)
    checkpoints.wait()
    return state


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM (a preemption notice) or Ctrl-C sets, for a run of one process.

    A second Ctrl-C does not wait for the state to be saved.
    """
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop
