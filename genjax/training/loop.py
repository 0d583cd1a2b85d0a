"""The loop that trains every family."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import jax
import numpy as np

from genjax.families.base import TrainState
from genjax.training.checkpoints import Checkpoints, Resumed
from genjax.training.logs import MetricLog
from genjax.training.skipping import SKIPPED
from genjax.training.step import TrainingSteps


class NonFiniteError(RuntimeError):
    """A metric became NaN or infinite; the message names it and the step."""


class Preempted(RuntimeError):  # noqa: N818 - not an error
    """The run was asked to stop, has saved its state, and can be resumed."""


class StopRequested(Exception):  # noqa: N818 - not an error
    """Raised in the midst of an action that gives way to a request to stop."""


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

    def next_due(self, step: int, last: int) -> int:
        """The first number of steps after ``step`` on which anything is due, at most ``last``."""
        periods = (self.log, self.evaluate, self.sample, self.checkpoint)
        return min([last, *(step - step % period + period for period in periods if period > 0)])


def _due(period: int, step: int, num_steps: int) -> bool:
    return period > 0 and (step == num_steps or step % period == 0)


_Metrics: TypeAlias = tuple[int, int, Mapping[str, Any]]
"""First and last step, counted from one, and arrays whose first entries are their metrics."""


def _arrays(row: Mapping[str, float]) -> dict[str, np.ndarray]:
    return {name: np.asarray([value]) for name, value in row.items()}


class _Clock:
    """How long the devices took for each window, without waiting for them: a thread does.

    Calls of the compiled step return long before it is done, so when they were made says nothing.
    """

    def __init__(self) -> None:
        self._waiting = ThreadPoolExecutor(1, thread_name_prefix="clock")
        self._paused = 0.0
        self._steps = 0
        self.start()

    def start(self) -> None:
        """What has been so far is not counted."""
        self._before = time.perf_counter(), self._paused

    def count(self, steps: int) -> None:
        """Takes in steps that belong to the open window."""
        self._steps += steps

    def close(self, last: Any) -> Callable[[], float]:
        """Closes the window that ends with these arrays; gives what waits for its steps a second.

        It is to be asked for one window after the other.
        """
        done = self._waiting.submit(lambda: (jax.block_until_ready(last), time.perf_counter())[1])
        steps, paused, self._steps = self._steps, self._paused, 0

        def rate() -> float:
            before, paused_before = self._before
            self._before = done.result(), paused
            return steps / max(done.result() - before - (paused - paused_before), 1e-9)

        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens meanwhile is not counted; no step may be under way."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began


class Meters:
    """The metrics of each step, kept on the device until a window of them is logged.

    A window is fetched one window late, when its values have long been computed, so logging never
    waits for the device. Checking for non-finite values looks at every step.

    Args:
        log_every: Steps of a window.
        log: Where windows go.
        saved: The window that was open when the run was saved.
        facts: What else is logged with the window that ends on a step.
    """

    def __init__(
        self,
        log_every: int,
        log: MetricLog,
        saved: Sequence[Any] = (),
        facts: Callable[[int], Mapping[str, float]] = lambda step: {},
    ):
        self._log_every = log_every
        self._log = log
        self._facts = facts
        self._window: list[_Metrics] = [(s, s, _arrays(m)) for s, m in saved]
        self._closed: list[_Metrics] = []
        self._clock = _Clock()
        self._rate: Callable[[], float] = lambda: 0.0
        self._fresh: list[Mapping[str, float]] = []
        self.latest: Mapping[str, float] = {}

    def start(self) -> None:
        """Starts the clock of ``steps_per_second``: all is compiled, and the first step begins."""
        self._clock.start()

    def add(self, first: int, last: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes in the metrics of the steps that led to ``first``, ..., ``last``.

        Args:
            first: Number of the first of these steps, counted from one.
            last: Number of the last.
            metrics: Arrays whose first entries are theirs.
        """
        self._window.append((first, last, metrics))
        self._clock.count(last - first + 1)
        if self._log_every and last % self._log_every == 0:
            for value in metrics.values():
                value.copy_to_host_async()
            rate = self._clock.close(metrics)
            self._write_closed()
            self._rate = rate
            self._closed, self._window = self._window, []

    def fresh(self) -> list[Mapping[str, float]]:
        """Lines of the log that were written since this was last asked for."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def flush(self) -> list[tuple[int, dict[str, float]]]:
        """Writes every closed window; returns the open one, checked, for the checkpoint."""
        self._write_closed()
        rows = self._fetch(self._window)
        self._window = [(step, step, _arrays(row)) for step, row in rows]
        self._log.flush()
        return rows

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stops the clock of ``steps_per_second``."""
        with self._clock.paused():
            yield

    def _fetch(self, window: Sequence[_Metrics]) -> list[tuple[int, dict[str, float]]]:
        fetched = jax.device_get([metrics for _, _, metrics in window])
        rows = [
            (step, {name: float(values[step - first]) for name, values in metrics.items()})
            for (first, last, _), metrics in zip(window, fetched, strict=True)
            for step in range(first, last + 1)
        ]
        for step, row in rows:
            if row.get(SKIPPED):  # what led to no update is no reason to stop
                for name in [name for name, value in row.items() if not math.isfinite(value)]:
                    del row[name]
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
        columns: dict[str, list[float]] = {}
        for _, row in rows:
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
        values = {
            f"train/{name}": math.fsum(column) / len(column)
            for name, column in sorted(columns.items())
        }
        values |= {f"train/{name}": value for name, value in self._facts(step).items()}
        values["train/steps_per_second"] = self._rate()
        self._closed = []
        self.latest = {"step": step, **values}
        self._fresh.append(self.latest)
        self._log.write(step, values)


def train(
    state: TrainState,
    steps: TrainingSteps,
    *,
    num_steps: int,
    log: MetricLog,
    checkpoints: Checkpoints,
    periods: Periods,
    evaluate: Callable[[int, TrainState], Mapping[str, Any]],
    sample: Callable[[int, TrainState], None],
    resumed: Resumed = Resumed(),
    facts: Callable[[int], Mapping[str, float]] = lambda step: {},
    on_step: Callable[[int, Mapping[str, float]], None] = lambda step, latest: None,
    on_log: Callable[[int, Mapping[str, float]], None] = lambda step, row: None,
    stop: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Trains from ``state.step`` to ``num_steps``.

    Steps are made in compiled calls of at most ``steps.feed.most``, cut short where something is
    due. After each call, in this order and on the number of steps taken: log, evaluate, sample,
    checkpoint. A run that is stopped and resumed computes what an uninterrupted one computes, bit
    for bit, and logs the same. If a request to stop or an error comes before the checkpoint, the
    state is saved with a note of what is due, which the resumed run does first. A run of one
    process is also saved if its next batch cannot be read or its progress cannot be shown.

    Args:
        state: State on the mesh; it is donated, so do not use it again.
        steps: Makes training steps.
        num_steps: Number of steps in all.
        log: Where metrics go.
        checkpoints: Where states go.
        periods: Steps between actions.
        evaluate: Called with step and state; returns metrics, which decide on the best checkpoint.
        sample: Called with step and state; writes pictures.
        resumed: Where the state came from.
        facts: What else is logged of a step, besides what ``train_step`` gives and the rate.
        on_step: Called after each call with the number of steps taken and the latest line of the
            log, to show progress. A line is written one window late, and says of which ``step`` it
            is.
        on_log: Called after each call with the number of steps taken and a new line of the log,
            once for each.
        stop: Asked once after each call, on all processes: whether to save and stop.

    Returns:
        The state after ``num_steps``.

    Raises:
        NonFiniteError: If a metric is not finite. No such state is ever saved.
        Preempted: If ``stop`` said so; the state is saved.
    """
    first = int(state.step)
    meters = Meters(periods.log, log, resumed.window, facts)

    def save(
        step: int,
        state: TrainState,
        scores: Mapping[str, float] | None = None,
        *,
        actions_due: bool = False,
    ) -> None:
        """The one place where a state is saved; a saved state has its log on disk."""
        window = meters.flush()
        checkpoints.save(step, state, window, scores, actions_due=actions_due)

    def act(step: int, state: TrainState) -> None:
        """Evaluates, samples and saves as is due after ``step``."""
        evaluating = _due(periods.evaluate, step, num_steps)
        sampling = _due(periods.sample, step, num_steps)
        stopping = stop(step) and step < num_steps
        saving = evaluating or stopping or _due(periods.checkpoint, step, num_steps)
        if not (saving or sampling):
            return
        meters.flush()  # no state with a metric that is not finite is evaluated or saved
        scores: Mapping[str, float] | None = None
        # Set when nothing is left to do for this state, so that whatever ends the actions early
        # (a stop, an error, an exception raised by a signal) leaves a note.
        done = False
        with meters.paused():
            try:
                if not stopping:
                    scores = evaluate(step, state) if evaluating else None
                    if sampling:
                        sample(step, state)
                    done = True
            except StopRequested:
                stopping = True
            finally:
                # Whatever ended the actions, the state they were for is kept.
                if saving or not done:
                    save(step, state, scores if done else None, actions_due=not done)
                if not done:
                    checkpoints.wait()
        if stopping:
            raise Preempted(f"stopped on request after step {step} of {num_steps}; state saved")

    @contextlib.contextmanager
    def kept(step: int, state: TrainState) -> Iterator[None]:
        """Saves the state if what does not touch it fails."""
        try:
            yield
        except BaseException:
            # With several processes a save is an act of all, and the others know of no failure.
            if step > first and jax.process_count() == 1:
                save(step, state)
                checkpoints.wait()
            raise

    if resumed.actions_due:
        act(first, state)
        checkpoints.actions_done()
    if first >= num_steps:
        checkpoints.wait()
        return state
    steps.start(first, num_steps)
    step = first
    while step < num_steps:
        # A call ends where anything is due, so that actions see exactly their step's state.
        last = periods.next_due(step, min(step + steps.feed.most, num_steps))
        if step == first:
            steps.compiled()
            meters.start()
        with kept(step, state):
            fed = steps.take(last - step)
        state, metrics = steps(state, fed)
        del fed  # which takes memory of the devices
        meters.add(step + 1, last, metrics)
        step = last
        act(step, state)
        with kept(step, state):
            for row in meters.fresh():
                on_log(step, row)
            on_step(step, meters.latest)
    steps.stop()
    checkpoints.wait()
    return state
