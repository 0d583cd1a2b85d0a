"""One experiment in one workdir: train, evaluate, sample, score."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from genjax import data
from genjax.families.base import TrainState
from genjax.training import feeds, loop, pictures, processes, signals, workdir
from genjax.training import mesh as meshes
from genjax.training import step as steps
from genjax.training.checkpoints import Checkpoints, Resumed
from genjax.training.console import Reporter
from genjax.training.evaluate import Evaluator
from genjax.training.experiment import Experiment
from genjax.training.logs import MetricLog
from genjax.training.random import random_key

OnStep = Callable[[int, Mapping[str, float]], None]


class Run:
    """One experiment in one workdir; what is there is gone on with.

    Args:
        experiment: What is run.
        place: Directory of the run: a path, or ``gs://bucket/folder``.
        quiet: Whether to say nothing.
        own_config: Complete config of the run in the workdir, to hold the experiment's against;
            read from its ``config.json`` as it stands if None.
        allow_config_change: Whether the experiment's config may differ from the run's.

    Raises:
        ValueError: If the experiment does not fit the devices.
        WorkdirError: If the workdir holds a run of another config.
    """

    def __init__(
        self,
        experiment: Experiment,
        place: epath.PathLike,
        *,
        quiet: bool = False,
        own_config: Mapping[str, Any] | None = None,
        allow_config_change: bool = False,
    ):
        experiment.check_devices(jax.device_count())
        self.experiment = experiment
        self.workdir = workdir.resolved(place)
        self.writes = jax.process_index() == 0
        self.report = Reporter(quiet=quiet or not self.writes)
        self.family, self.mesh = experiment.on_devices()
        self.template = steps.state_template(experiment.state_shapes, self.mesh)
        self.log = MetricLog(self.workdir, active=self.writes)
        self._evaluator = Evaluator(self.family, self.mesh, progress=self._progress)
        self._batches = experiment.train_batches()
        self._own_config = own_config
        self._allow_config_change = allow_config_change
        self._stop: Any = None
        self._held: tuple[int, TrainState] | None = None

    # What a notebook calls.

    def train(self, *, on_step: OnStep | None = None) -> None:
        """Trains to the end, from the newest checkpoint if there is one.

        SIGTERM, SIGHUP and Ctrl-C (in a notebook: interrupt) save the state and end the training;
        calling it again goes on.

        Args:
            on_step: Called after each compiled call with the step and the latest logged metrics.

        Raises:
            Preempted: If it was stopped; the state is saved.
            NonFiniteError: If a metric is not finite.
            WorkdirError: If the workdir cannot be used.
        """
        settings = self.experiment.train
        self.check_config(training=True)
        if settings.eval_every:
            self.experiment.check_evaluation()  # said before anything is trained
        self._may_write()
        with contextlib.ExitStack() as stack:
            if self.writes:
                held = workdir.lock(self.workdir)
                if held is not None:
                    stack.enter_context(held)
            stop = stack.enter_context(self._stopping())
            checkpoints = stack.enter_context(
                Checkpoints(
                    self.workdir,
                    keep=settings.keep_checkpoints,
                    best_metric=settings.best_metric,
                )
            )
            stack.enter_context(self.log)
            resumed = checkpoints.restore(self.template)
            if resumed.step >= settings.num_steps and not resumed.actions_due:
                self.report.say(
                    f"{self.workdir} is at step {resumed.step} of {settings.num_steps}: nothing to "
                    "do"
                )
                self._held = self._held_of(resumed)
                return
            if self.writes and self.experiment.config is not None:
                workdir.write_config(self.workdir, self.experiment.config)
            self.log.rewind(resumed.step, actions_due=resumed.actions_due)
            self.report.summary(
                self.experiment, self.mesh, workdir=str(self.workdir), step=resumed.step
            )
            self._held = None  # its memory is the loop's, which donates it
            self._train(resumed, checkpoints, stop, on_step)
        self.report.say(f"done: {self.workdir} is at step {settings.num_steps}")

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the newest state, and logs what it found.

        Returns:
            Numbers and the protocol they were made by, named ``eval/...``.
        """
        step, state = self.newest()
        self.experiment.check_evaluation()
        self._may_write()
        with self.log, self.report.bars:
            return self._evaluate(step, state)

    def sample(
        self, num_samples: int | None = None, *, seed: int | None = None, **reads: Any
    ) -> np.ndarray:
        """Draws samples from the newest state.

        Args:
            num_samples: Number of samples; that of the ``sample`` section if None.
            seed: Seed of the draws; that of the ``sample`` section if None.
            **reads: What the family samples from, one row a sample, such as ``label=[3, 3, 7]``;
                what is not given is as in pictures (:meth:`Experiment.sample_requests`).

        Returns:
            ``[num_samples, *event]``, grey levels or real numbers.

        Raises:
            ValueError: If the family generates nothing, or does not read what is given.
        """
        self._check_samples()
        given = {name: np.asarray(rows) for name, rows in reads.items()}
        for name, rows in given.items():
            if name not in self.family.reads:
                known = ", ".join(self.family.reads) or "nothing"
                raise ValueError(f"this family does not read {name!r}; it reads {known}")
            num_samples = len(rows) if num_samples is None else num_samples
            if len(rows) != num_samples:
                raise ValueError(f"expected {num_samples} rows of {name}, got {len(rows)}")
        settings = self.experiment.sample
        count = settings.num_samples if num_samples is None else num_samples
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"num_samples must be a positive whole number, got {count!r}")
        _, state = self.newest()
        requests = self.experiment.sample_requests(count)
        requests |= {name: rows.astype(requests[name].dtype) for name, rows in given.items()}
        with self.report.bars:
            drawn = self._evaluator.sample(
                state,
                requests,
                random_key(settings.seed if seed is None else seed, "sample"),
                batch_size=settings.batch_size or count,
            )
        return np.asarray(drawn.rows)

    def log_prob(self, x: np.ndarray, **features: Any) -> np.ndarray:
        """Log-probability of each row in nats, under the newest state's averaged parameters.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data: grey levels or real numbers.
            **features: Further features the model reads, such as ``label``, each ``[N, ...]``.

        Returns:
            ``[N]``: exact, or the lower bound that ``family.eval_protocol`` names.

        Raises:
            ValueError: If the family has no likelihood, or the rows are not of the data's kind.
        """
        if self.family.log_prob is None:
            raise ValueError("this family gives no likelihood of given rows")
        spec = self.experiment.spec
        rows = {}
        for name, values in {"x": x, **features}.items():
            array, feature = np.asarray(values), spec.get(name)
            if feature is None or array.shape[1:] != feature.shape or len(array) != len(x):
                expected = (
                    f"[{len(x)}, {', '.join(map(str, feature.shape))}]" if feature else "none"
                )
                raise ValueError(f"{name}: expected rows {expected}, got shape {array.shape}")
            if feature.num_levels and not np.issubdtype(array.dtype, np.integer):
                raise ValueError(
                    f"{name}: expected whole grey levels from 0 to {feature.num_levels - 1}, got "
                    f"{array.dtype}"
                )
            levels = feature.num_levels
            if levels and array.size and not (0 <= array.min() and array.max() < levels):
                raise ValueError(
                    f"{name}: expected whole grey levels from 0 to {levels - 1}, got "
                    f"{array.min()} to {array.max()}"
                )
            rows[name] = array.astype(feature.dtype)
        if not len(x):
            return np.zeros(0, np.float32)
        _, state = self.newest()
        batches = data.EvalBatches(
            data.ArraySource(**rows), meshes.filled_up(self.experiment.eval.batch_size, self.mesh)
        )
        with self.report.bars:
            return self._evaluator.log_prob(
                state,
                (batches[i] for i in range(len(batches))),
                len(batches),
                random_key(self.experiment.eval.seed, "log_prob"),
            )

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The complete config, if there is one."""
        return self.experiment.config

    @property
    def state(self) -> TrainState:
        """The newest state."""
        return self.newest()[1]

    # What the command calls besides.

    def draw(self) -> None:
        """Samples from the newest state into files and pictures beside those of training.

        Their names end in ``_sample``: what training drew at the same step stays.
        """
        self._check_samples()
        step, state = self.newest()
        self._may_write()
        with self.log, self.report.bars:
            self._draw(step, state, "_sample")

    def newest(self) -> tuple[int, TrainState]:
        """The newest state and its step, from memory or from the newest checkpoint.

        Raises:
            WorkdirError: If there is none.
        """
        if self._held is None:
            if not workdir.has_run(self.workdir):
                raise self._no_checkpoint()
            self.check_config(training=False)
            with Checkpoints(self.workdir, read_only=True) as checkpoints:
                self._held = self._held_of(checkpoints.restore(self.template))
        if self._held is None:
            raise self._no_checkpoint()
        return self._held

    def check_config(self, *, training: bool) -> None:
        """Refuses a config that is not the run's, where there is work to protect."""
        config = self.experiment.config
        if config is None or self._allow_config_change or not workdir.has_run(self.workdir):
            return
        own = self._own_config or workdir.read_config(self.workdir)
        workdir.check_config(self.workdir, own, config, training=training)

    def init_state(self) -> TrainState:
        """The state before the first step, frozen parts filled in."""
        # Every process knows its rows of the first batch: layers start from statistics of all.
        key = random_key(self.experiment.train.seed, "init")
        state = steps.init_state(self.family, key, self.first_batch(), self.mesh)
        if not self.experiment.frozen:
            return state
        shardings = meshes.state_sharding(state.model_state, self.mesh)
        kept = dict(state.model_state)
        for name, load in self.experiment.frozen.items():
            kept[name] = {**kept[name], **meshes.put(load(), meshes.replicated(self.mesh))}
        return state.replace(model_state=jax.device_put(kept, shardings))

    def first_batch(self) -> dict[str, np.ndarray]:
        """This process's rows of the first step."""
        return {
            data.stream_name(name, feature): rows
            for name, batches in self._batches.items()
            for feature, rows in batches[0].items()
        }

    def feed(self) -> feeds.Feed:
        """Where the batches of training come from, and the most steps of a compiled call."""
        settings = self.experiment.data
        most = self.experiment.train.steps_per_call
        if most > 1 and not steps.loops_well(
            self.experiment.family, self.experiment.state_shapes, self.experiment.step_shapes()
        ):
            self.report.say(
                "one step a call instead of train.steps_per_call: convolutions in loops are slow "
                "on CPUs"
            )
            most = 1
        return feeds.make_feed(
            self._batches,
            self.mesh,
            most=most,
            device_limit_mib=settings.device_limit_mib,
            num_workers=settings.num_workers,
            augment=self.experiment.augment(),
        )

    def training_steps(self, feed: feeds.Feed | None = None) -> steps.TrainingSteps:
        """The compiled steps of training; compilation starts at once, in a thread."""
        return steps.TrainingSteps(
            self.family,
            self.template,
            self.feed() if feed is None else feed,
            key=random_key(self.experiment.train.seed, "train"),
            mesh=self.mesh,
        )

    # Parts.

    def _may_write(self) -> None:
        """Waits until all processes have checked what is there, and makes the workdir."""
        processes.meet("workdir checked")  # none may see what another has begun
        workdir.make_writable(self.workdir)

    def _train(
        self,
        resumed: Resumed,
        checkpoints: Checkpoints,
        stop: Callable[[int], bool],
        on_step: OnStep | None,
    ) -> None:
        settings = self.experiment.train
        periods = settings.periods
        if self.family.sample is None:
            periods = dataclasses.replace(periods, sample=0)
        # Compiles in a thread while the state is made: each takes seconds, on cores of its own.
        training = self.training_steps()
        state = self.init_state() if resumed.state is None else resumed.state
        with self.report.bars:
            shown = self.report.training(self.family, resumed.step, settings.num_steps)

            def after(step: int, latest: Mapping[str, float]) -> None:
                shown(step, latest)
                if on_step is not None:
                    on_step(step, latest)

            state = loop.train(
                state,
                training,
                num_steps=settings.num_steps,
                log=self.log,
                checkpoints=checkpoints,
                periods=periods,
                evaluate=self._evaluate,
                sample=self._draw,
                resumed=resumed,
                on_step=after,
                stop=stop,
            )
        self._held = settings.num_steps, state

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[Callable[[int], bool]]:
        """What asks whether to save and stop, while signals ask for it."""
        if jax.process_count() > 1:
            with signals.noticing_interrupts():
                yield processes.AgreedStop().reached
            return
        with signals.stopping() as requested:
            self._stop = requested
            try:
                yield lambda step: requested.is_set()
            finally:
                self._stop = None

    @staticmethod
    def _held_of(resumed: Resumed) -> tuple[int, TrainState] | None:
        return None if resumed.state is None else (resumed.step, resumed.state)

    def _no_checkpoint(self) -> workdir.WorkdirError:
        return workdir.WorkdirError(
            f"there is no checkpoint in {self.workdir}: train first (--mode=train)"
        )

    def _check_samples(self) -> None:
        if self.family.sample is None:
            raise workdir.WorkdirError("this family generates nothing to sample")

    def _progress(self, items: Any, total: int, label: str) -> Iterator[Any]:
        def give_way() -> None:
            if self._stop is not None and self._stop.is_set():
                raise loop.StopRequested

        return self.report.progress(items, total, label, give_way)

    def _evaluate(self, step: int, state: TrainState) -> dict[str, Any]:
        family = self.family
        result: dict[str, Any] = {}
        if family.eval_step is not None:
            result |= self._evaluate_examples(state)
        if self.experiment.quality is not None:
            result |= self._measure_samples(state)
        result |= {"seed": self.experiment.eval.seed, **family.eval_protocol}
        named = {f"eval/{name}": value for name, value in result.items()}
        self.report.evaluation(step, result)
        self.log.write(step, named)
        return named

    def _evaluate_examples(self, state: TrainState) -> dict[str, Any]:
        """One pass over the test split."""
        settings = self.experiment.eval
        batches = data.EvalBatches(
            self.experiment.test_data.source,
            meshes.filled_up(settings.batch_size, self.mesh),  # results do not depend on it
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        result = self._evaluator.evaluate(
            state,
            data.iterate(batches, 0, len(batches), num_workers=self.experiment.data.num_workers),
            len(batches),
            random_key(settings.seed, "eval"),
        )
        return {**result, "split": self.experiment.data.test_split}

    def _measure_samples(self, state: TrainState) -> dict[str, Any]:
        """Samples against the reference split."""
        assert self.experiment.quality is not None
        settings, quality = self.experiment.eval, self.experiment.quality()
        requests = self.experiment.sample_requests(quality.num_samples)
        drawn = self._evaluator.sample(
            state,
            requests,
            random_key(settings.seed, "eval_samples"),
            batch_size=min(settings.batch_size, quality.num_samples),
        )
        return quality.measure(
            np.asarray(drawn.rows),
            requests.get("label"),
            mesh=self.mesh,
            batch_size=settings.batch_size,
            progress=self._progress,
        )

    def _draw(self, step: int, state: TrainState, kind: str = "") -> None:
        settings = self.experiment.sample
        requests = self.experiment.sample_requests(settings.num_samples)
        drawn = self._evaluator.sample(
            state,
            requests,
            random_key(settings.seed, "sample"),
            batch_size=settings.batch_size or settings.num_samples,
        )
        if not self.writes:
            return
        folder = self.workdir / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"step_{step:08d}{kind}"
        dataset = self.experiment.train_data
        arrays: dict[str, Any] = {"samples": drawn.rows}
        if dataset.num_levels:
            arrays["num_levels"] = np.asarray(dataset.num_levels)
        # "a/b" would be a folder inside of the archive.
        arrays |= {name.replace("/", "_"): requests[name] for name in self.family.reads}
        with (folder / f"{stem}.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)
        curves = self.family.curves
        found = None if curves is None else lambda: jax.device_get(jax.jit(curves)(state))
        drawing = pictures.of_samples(drawn, dataset, found)
        suffix_of = {name: "" if name == "samples" else f"_{name}" for name in drawing}
        done = [
            name
            for name, draw in drawing.items()
            if self._picture(step, name, draw, folder / f"{stem}{suffix_of[name]}.png")
        ]
        where = f"{folder}/{stem}.{'png' if 'samples' in done else 'npz'}"
        left_out = pictures.num_nonfinite(drawn.rows) + pictures.num_nonfinite(drawn.trajectory)
        said = f"; {left_out} values that are not finite are left out of pictures"
        self.report.say(
            f"step {step}: {len(drawn.rows)} samples in {where}{said if left_out else ''}"
        )

    def _picture(
        self, step: int, name: str, draw: Callable[[], np.ndarray], path: epath.Path
    ) -> bool:
        """Draws and writes one picture; says so if it cannot, which is no reason to end a run."""
        try:
            pixels = draw()
            pictures.write_png(path, pixels)
            self.log.image(step, name, pixels)
        except Exception as error:
            logging.warning(
                "step %d: no picture of %s (%s: %s); the run goes on, the samples are in the .npz",
                step,
                name,
                type(error).__name__,
                " ".join(str(error).split()),
            )
            return False
        return True
