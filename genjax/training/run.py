"""One experiment in one workdir: train, evaluate, sample, score."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from genjax import data
from genjax.families.base import TrainState
from genjax.training import (
    edits,
    feeds,
    loop,
    pictures,
    processes,
    record,
    signals,
    sources,
    workdir,
)
from genjax.training import mesh as meshes
from genjax.training import step as steps
from genjax.training.checkpoints import Checkpoints, Resumed
from genjax.training.experiment import Edit
from genjax.training.logs import MetricLog
from genjax.training.random import random_key
from genjax.training.rows import captions_of
from genjax.training.trained import Asked, Trained

OnStep = Callable[[int, Mapping[str, float]], None]


class Run(Trained):
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

    @functools.cached_property
    def log(self) -> MetricLog:
        """Where metrics and pictures go."""
        loggers = self.experiment.loggers
        return MetricLog(self.workdir, active=self.writes, loggers=loggers)

    @functools.cached_property
    def _batches(self) -> dict[str, data.TrainBatches]:
        return self.experiment.train_batches()

    # What a notebook calls.

    def train(self, *, on_step: OnStep | None = None) -> None:
        """Trains to the end, from the newest checkpoint if there is one.

        SIGTERM, SIGHUP and Ctrl-C (in a notebook: interrupt) save the state and end the training;
        calling it again goes on.

        Args:
            on_step: Called after each compiled call with the number of steps taken and the latest
                line of the log, whose own ``step`` is earlier: it is written one line late.

        Raises:
            Preempted: If it was stopped; the state is saved.
            NonFiniteError: If a metric is not finite.
            WorkdirError: If the workdir cannot be used.
        """
        settings = self.experiment.train
        self.check_config(training=True)
        trained_on = record.record_of(self.experiment.streams)
        same_data = self._check_data(trained_on)
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
            if self.writes and not same_data:
                record.write_record(self.workdir, trained_on, self.experiment.spec)
            self.log.rewind(resumed.step, actions_due=resumed.actions_due)
            if self.experiment.config is not None:
                evaluated = [settings.best_metric] if settings.eval_every else []
                self.log.describe(self.experiment.config, evaluated)
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
        names = dict.fromkeys((*self.experiment.streams_read, *self.experiment.eval.streams))
        streams = {name: self.experiment.streams[name] for name in names}
        self._check_data({n: {"test": data.identity(s.test)} for n, s in streams.items()})
        self._may_write()
        with self.log, self.report.bars:
            return self._evaluate(step, state)

    # What the command calls besides.

    def draw(
        self,
        num_samples: int | None = None,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        sampler: Any = None,
        guidance: Any = None,
        **reads: Any,
    ) -> np.ndarray:
        """Samples from the newest state into files and pictures beside those of training.

        Their names end in ``_sample``: what training drew at the same step stays. Arguments, errors
        and what is returned are those of :meth:`sample`.
        """
        asked = self.ask(
            num_samples, reads, seed=seed, num_steps=num_steps, sampler=sampler, guidance=guidance
        )
        step, state = self.newest()
        self._may_write()
        with self.log, self.report.bars:
            return self._draw_asked(step, state, asked, "_sample")

    def draw_edit(self) -> dict[str, float]:
        """Does the edit of the ``edit`` section with the newest state.

        Pictures and arrays go to ``edits`` in the workdir, numbers to ``metrics.jsonl``.

        Returns:
            Numbers, named ``edit/...``.

        Raises:
            EditError: If there is none, or model or data do not fit it.
        """
        edit = self.experiment.edit
        if edit is None:
            raise edits.EditError("there is no edit: give the section edit a name, such as vary")
        step, _ = self.newest()
        called = _called(edit)
        context = edits.Context(self.edit, self.experiment, self._classifier())
        try:
            made = edit.apply(context)
        except ValueError as error:
            raise edits.EditError(f"{called}: {' '.join(str(error).split())}") from error
        self._may_write()
        named = {f"edit/{called}/{name}": value for name, value in made.numbers.items()}
        if not self.writes:
            return named
        folder = self.workdir / "edits"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"step_{step:08d}_{called}"
        with self.log, self.report.bars:
            with (folder / f"{stem}.npz").open("wb") as file:
                np.savez_compressed(file, **made.arrays)  # type: ignore[arg-type]
            for name, pixels in made.pictures.items():
                suffix = f"_{name}" if name else ""
                draw = functools.partial(np.asarray, pixels)
                self._picture(step, f"edit_{called}{suffix}", draw, folder / f"{stem}{suffix}.png")
            self.log.write(step, named)
        said = ", ".join(f"{name} {value:.3g}" for name, value in made.numbers.items())
        self.report.say(f"step {step}: {called} in {folder}/{stem}*: {said}")
        return named

    def _begin(self) -> TrainState:
        """The state before the first step, after what it was copied from is written down."""
        if self.writes and self.experiment.config is not None:
            sources.write_sources(self.workdir, sources.versions(self.experiment.config))
        return self.init_state()

    def init_state(self) -> TrainState:
        """The state before the first step; what was trained before is filled in."""
        # Every process knows its rows of the first batch: layers start from statistics of all.
        key = random_key(self.experiment.train.seed, "init")
        loaded = {name: load() for name, load in self.experiment.frozen.items()}
        state = steps.init_state(self.family, key, self.first_batch(), self.mesh, loaded)
        started = {name: dict(load()) for name, load in self.experiment.started.items()}
        if not loaded and not started:
            return state
        params, kept, ema = dict(state.params), dict(state.model_state), dict(state.ema)
        for name, values in started.items():
            params[name] = self._alike(name, values.pop("params"), params[name])
            ema |= {name: params[name]} if name in ema else {}
            # Such as running statistics; a family may keep more than the network has.
            loaded |= {name: values} if values else {}
        for name, values in loaded.items():
            kept[name] = {**kept.get(name, {}), **self._put(values)}
        filled = state.replace(params=params, model_state=kept, ema=ema)
        # Donated later: no two leaves may share a buffer.
        filled = jax.tree.map(jax.numpy.copy, filled)
        return jax.device_put(filled, meshes.state_sharding(filled, self.mesh))

    def _put(self, values: Any) -> Any:
        return meshes.put(values, meshes.replicated(self.mesh))

    def _alike(self, name: str, values: Any, drawn: Any) -> Any:
        """Parameters to start from, on the devices, if they are those of the network."""
        if jax.tree.map(np.shape, values) != jax.tree.map(np.shape, drawn):
            raise workdir.WorkdirError(
                f"{name} cannot start from the run it is to start from: its parameters have other "
                "names or shapes; was its section changed?"
            )
        return self._put(values)

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

    def _check_data(self, found: Mapping[str, Any]) -> bool:
        """Refuses data that is not the run's, where there is work to protect.

        Returns:
            Whether the run is known to be of this data.
        """
        if self._allow_config_change or not workdir.has_run(self.workdir):
            return False
        recorded = record.read_record(self.workdir)
        if recorded is not None:
            record.check_record(self.workdir, recorded, found)
        return recorded is not None

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
        state = self._begin() if resumed.state is None else resumed.state
        with self.report.bars:
            shown = self.report.training(self.family, resumed.step, settings.num_steps)

            def after(step: int, latest: Mapping[str, float]) -> None:
                shown.advance(step)
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
                facts=self._facts,
                on_step=after,
                on_log=shown.log,
                stop=stop,
            )
        self._held = settings.num_steps, state

    def _facts(self, step: int) -> dict[str, float]:
        """What a line of the log says besides metrics and the rate."""
        experiment = self.experiment
        facts: dict[str, float] = {
            "_".join(filter(None, (player, "learning_rate"))): rate(step)
            for player, rate in experiment.learning_rates.items()
        }
        rows = experiment.streams[""].batch_size * self.family.batches_per_step
        facts["examples_seen"] = step * rows
        used = [device.memory_stats() or {} for device in jax.local_devices()]
        if all("bytes_in_use" in stats for stats in used):  # CPUs do not say
            facts["device_memory_mib"] = max(stats["bytes_in_use"] for stats in used) / 2**20
        return facts

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

    def _evaluate(self, step: int, state: TrainState) -> dict[str, Any]:
        family = self.family
        result: dict[str, Any] = {}
        if family.eval_step is not None:
            result |= self._evaluate_examples(state)
            for name in self.experiment.eval.streams:
                found = self._evaluate_examples(state, name)
                result |= {f"{name}_{metric}": value for metric, value in found.items()}
        if self.experiment.quality is not None:
            quality = self.experiment.quality()
            if quality.of_samples:
                result |= {**self._measure_samples(state), **family.sample_protocol}
            if quality.of_reconstructions:
                result |= self._measure_reconstructions(state)
        result |= {"seed": self.experiment.eval.seed, **family.eval_protocol}
        named = {f"eval/{name}": value for name, value in result.items()}
        self.report.evaluation(step, result)
        self.log.write(step, named)
        return named

    def _evaluate_examples(self, state: TrainState, name: str = "") -> dict[str, Any]:
        """One pass over the test split of a stream, as rows of the first one."""
        settings, stream = self.experiment.eval, self.experiment.streams[name]
        batches = data.EvalBatches(
            stream.test.source if name else self.experiment.eval_source(),
            meshes.filled_up(settings.batch_size, self.mesh),  # results do not depend on it
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        read = data.iterate(batches, 0, len(batches), num_workers=self.experiment.data.num_workers)
        # Rows of a further stream may have features that the first one's have not.
        unread = set(stream.test.spec) - set(self.experiment.test_data.spec) if name else set()
        result = self._evaluator.evaluate(
            state,
            ({n: part for n, part in rows.items() if n not in unread} for rows in read),
            len(batches),
            random_key(settings.seed, "eval"),
        )
        said = (self.experiment.data.streams or {}).get(name, {})
        return {**result, "split": said.get("test_split", self.experiment.data.test_split)}

    def _measure_samples(self, state: TrainState) -> dict[str, Any]:
        """Samples against the reference split."""
        assert self.experiment.quality is not None
        settings, quality = self.experiment.eval, self.experiment.quality()
        requests = self.experiment.sample_requests(quality.num_samples, labels=quality.labels)
        drawn = self._evaluator.sample(
            state,
            requests,
            random_key(settings.seed, "eval_samples"),
            batch_size=min(settings.batch_size, quality.num_samples),
        )
        return quality.measure(
            np.asarray(drawn.rows),
            self.experiment.sample_labels(requests),
            mesh=self.mesh,
            batch_size=settings.batch_size,
            progress=self._progress,
        )

    def _measure_reconstructions(self, state: TrainState) -> dict[str, Any]:
        """What comes back of the reference split from latents."""
        experiment, reconstruct = self.experiment, self.family.reconstruct
        assert experiment.quality is not None and reconstruct is not None
        settings, quality = experiment.eval, experiment.quality()
        of = experiment.train_data if settings.reference == "train" else experiment.test_data
        rows = np.arange(quality.num_reference)
        made = self._evaluator.draw(
            "reconstructing",
            lambda state, shared, key, batch: reconstruct(state, batch, key),
            state,
            (),
            {**of.source.rows(rows), "index": rows.astype(np.int32)},
            random_key(settings.seed, "reconstruct"),
            batch_size=min(settings.batch_size, len(rows)),
        )
        return quality.measure_reconstructions(
            np.asarray(made),
            mesh=self.mesh,
            batch_size=settings.batch_size,
            progress=self._progress,
        )

    def _draw(self, step: int, state: TrainState) -> None:
        self._draw_asked(step, state, self.ask(None, {}))

    def _draw_asked(self, step: int, state: TrainState, asked: Asked, kind: str = "") -> np.ndarray:
        """Draws what is asked for, into files whose names end in ``kind``."""
        drawn = self._drawn(state, asked)
        rows = np.asarray(drawn.rows)
        if not self.writes:
            return rows
        folder = self.workdir / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"step_{step:08d}{kind}"
        dataset = self.experiment.train_data
        arrays: dict[str, Any] = {"samples": rows}
        if dataset.num_levels:
            arrays["num_levels"] = np.asarray(dataset.num_levels)
        # "a/b" would be a folder inside of the archive.
        arrays |= {name.replace("/", "_"): told for name, told in asked.told.items()}
        captions = captions_of(asked.experiment, asked.requests)
        if captions is not None:
            arrays["captions"] = np.array(captions)
        with (folder / f"{stem}.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)
        curves = self.family.curves
        found = None if curves is None else lambda: jax.device_get(jax.jit(curves)(state))
        spec = self.experiment.spec
        beside = [(asked.told[n], spec[n].num_levels) for n in asked.told if n in spec]
        drawing = pictures.of_samples(drawn, dataset, found, beside, captions)
        suffix_of = {name: "" if name == "samples" else f"_{name}" for name in drawing}
        done = [
            name
            for name, draw in drawing.items()
            if self._picture(step, name, draw, folder / f"{stem}{suffix_of[name]}.png")
        ]
        ending = "png" if "samples" in done else "npz"
        if dataset.vocabulary is not None:
            texts = functools.partial(dataset.vocabulary.decode, rows)
            ending = "txt" if self._text(step, texts, folder / f"{stem}.txt") else ending
        where = f"{folder}/{stem}.{ending}"
        left_out = pictures.num_nonfinite(drawn.rows) + pictures.num_nonfinite(drawn.trajectory)
        said = f"; {left_out} values that are not finite are left out of pictures"
        made = "".join(f" ({how})" for how in asked.experiment.family.sample_protocol.values())
        self.report.say(
            f"step {step}: {len(rows)} samples{made} in {where}{said if left_out else ''}"
        )
        return rows

    def _classifier(self) -> edits.Classify | None:
        """What the classifier of ``eval.features`` says of rows, if there is one."""
        if self.experiment.features is None:
            return None
        features = self.experiment.features()
        if features.name is None:  # Inception's classes are none of the data's
            return None
        apply = jax.jit(lambda variables, rows: features.apply(variables, rows)[1].argmax(-1))
        size = self.experiment.eval.batch_size

        def classify(rows: np.ndarray) -> np.ndarray:
            starts = range(0, len(rows), size)
            said = [apply(features.variables, rows[i : i + size]) for i in starts]
            return np.concatenate([np.asarray(part) for part in said])

        return classify

    def _picture(
        self, step: int, name: str, draw: Callable[[], np.ndarray], path: epath.Path
    ) -> bool:
        """Draws and writes one picture, if it can."""

        def write() -> None:
            pixels = draw()
            pictures.write_png(path, pixels)
            self.log.image(step, name, pixels)

        return _tried(step, f"picture of {name}", write)

    def _text(self, step: int, read: Callable[[], list[str]], path: epath.Path) -> bool:
        """Writes samples as texts and says the first of them, if it can."""

        def write() -> None:
            texts = read()
            content = "\n".join(f"--- {i} ---\n{text}" for i, text in enumerate(texts, 1)) + "\n"
            path.write_bytes(content.encode())
            self.log.text(step, "samples", content)
            self.report.say(f"step {step}: the first begins {texts[0][:200]!r}")

        return _tried(step, "text of samples", write)


def _tried(step: int, what: str, write: Callable[[], None]) -> bool:
    """Writes something; says so if that cannot be done, which is no reason to end a run."""
    try:
        write()
    except Exception as error:
        logging.warning(
            "step %d: no %s (%s: %s); the run goes on, the samples are in the .npz",
            step,
            what,
            type(error).__name__,
            " ".join(str(error).split()),
        )
        return False
    return True


def _called(edit: Edit) -> str:
    """The name of an edit in files: that of its class, in small letters."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(edit).__name__).lower()
