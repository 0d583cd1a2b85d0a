"""A pipeline in a workdir: stages that are trained one after the other, and sampled as a chain."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from genjax import config as configs
from genjax.config.frozen import planned
from genjax.config.pipelines import (
    PREFIX,
    PROMPT,
    Link,
    references,
    stage_config,
    stage_errors,
    with_names,
)
from genjax.config.tables import look_up_family
from genjax.data import stream_seed
from genjax.training import processes, sources, workdir
from genjax.training.checkpoints import Checkpoints
from genjax.training.console import Reporter
from genjax.training.experiment import Experiment
from genjax.training.files import write_atomically
from genjax.training.rows import captions_of
from genjax.training.run import OnStep, Run

RECORD = "pipeline.json"
"""File of a pipeline's workdir that says what its stages are."""


class Pipeline:
    """Several stages in one workdir, each an ordinary run in the folder of its name.

    Stages may name others, as ``"stage:NAME"`` in the place of a workdir. What a stage
    copies from another is written down; if that is another later on, the stage is refused.

    Args:
        config: Path of the pipeline's file, or what its ``get_config()`` returns; None for the
            pipeline that is in the workdir.
        place: Its directory: a path, or ``gs://bucket/folder``.
        overrides: Values by dotted key, such as ``{"stages.codes.train.num_steps": 500}``, or words
            as on the command line.
        quiet: Whether to say nothing.
        allow_config_change: Whether stages may go on though their config, or what they have copied,
            is another now.

    Raises:
        ConfigError: If the config is wrong; the message is one line and names stage and key.
        WorkdirError: If there is a single run in the workdir, or no pipeline where one is asked
            for.
    """

    def __init__(
        self,
        config: Any,
        place: epath.PathLike,
        overrides: Sequence[str] | Mapping[str, Any] = (),
        *,
        quiet: bool = False,
        allow_config_change: bool = False,
    ):
        self.workdir = workdir.resolved(place)
        if workdir.has_run(self.workdir):
            raise workdir.WorkdirError(
                f"{self.workdir} holds a single run: a pipeline needs a workdir of its own"
            )
        self._record = _read_record(self.workdir)
        if config is None and not self._record:
            raise workdir.WorkdirError(
                f"there is no pipeline in {self.workdir}: it has no {RECORD}"
            )
        said = {name: self._record[name] for name in ("stages", "sample") if name in self._record}
        self.config = configs.read_pipeline(said if config is None else config, overrides)
        self.names = tuple(self.config.stages)
        self._places = {name: str(self.workdir / name) for name in self.names}
        self._planned: dict[str, Mapping[str, Any]] = {}
        self._quiet = quiet
        self._allow = allow_config_change
        with contextlib.suppress(RuntimeError):  # jax has looked for devices already, in a notebook
            configs.divide_cpu({"parallel": configs.parallel_of(self.config)})

    @functools.cached_property
    def report(self) -> Reporter:
        """Where lines go."""
        return Reporter(quiet=self._quiet or jax.process_index() > 0)

    @functools.cached_property
    def stages(self) -> Mapping[str, Run]:
        """The runs of the stages by name, opened when they are asked for."""
        return _Stages(self)

    # What a notebook calls.

    def train(self, *, on_step: OnStep | None = None) -> None:
        """Trains each stage to its end, in order, from where it was stopped.

        Before anything is trained all stages are built, so that errors of the last are known first.

        Args:
            on_step: As of :meth:`genjax.Run.train`; called in all stages.

        Raises:
            ConfigError: If a stage is wrong.
            WorkdirError: If a stage has another config than its run, or has copied an earlier one
                that is another now.
            Preempted: If it was stopped; the state is saved, and the same call goes on.
            NonFiniteError: If a metric is not finite.
        """
        ahead = self._unfinished()
        for name in self.names:
            self._check_sources(name, ahead)
        first = self._build_ahead(ahead)
        processes.meet("pipeline checked")
        workdir.make_writable(self.workdir)
        with contextlib.ExitStack() as stack:
            held = workdir.lock(self.workdir) if not jax.process_index() else None
            if held is not None:
                stack.enter_context(held)
            self._write_record([name for name in self.names if name not in ahead])
            for number, name in enumerate(self.names, 1):
                said = f"stage {name}, {number} of {len(self.names)}"
                if name not in ahead:
                    self.report.say(f"{said}: {self._places[name]} is trained: nothing to do")
                    continue
                self.report.say(said)
                experiment = first if name == ahead[0] else None
                run = self._open(name, experiment or self.build(name))
                first = None  # nothing keeps the data of a stage that is done
                self._check_sources(name, [])
                run.train(on_step=on_step)
                del run, experiment
                self._write_record([*self._record["finished"], name])
        self.__dict__.pop("stages", None)  # states that were opened before are old

    def evaluate(self) -> dict[str, dict[str, Any]]:
        """Evaluates the newest state of each stage, and logs what it found.

        Returns:
            For each stage that has something to evaluate what :meth:`genjax.Run.evaluate` returns.
        """
        found = {}
        for name in self.names:
            self._check_sources(name, [])
            run = self._open(name, self.build(name, mode="sample"))
            if run.family.eval_step is None and run.experiment.quality is None:
                self.report.say(f"stage {name}: it has nothing to evaluate")
                continue
            self.report.say(f"stage {name}")
            with _errors_of(name):
                run.experiment.check_evaluation()
            found[name] = run.evaluate()
        return found

    def sample(
        self,
        num_samples: int | None = None,
        *,
        prompts: Sequence[str] = (),
        negative_prompt: str | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Draws samples from the stages of the chain, one after the other.

        Args:
            num_samples: Number of samples; that of the ``sample`` section of the first stage of the
                chain if None, or that of the prompts if they are more.
            prompts: Texts that samples are asked for by, in turn.
            negative_prompt: Text that guidance leads away from, in the stages that read tokens.
            seed: Seed of the draws; that of the ``sample`` section of each stage if None.
            **options: ``num_steps``, ``sampler`` and ``guidance`` as of
                :meth:`~genjax.training.trained.Trained.sample`, for the stages of the chain that go
                from noise to data in steps (guidance for those that are told labels or texts), and
                features that the first stage reads, such as ``label``.

        Returns:
            Samples of the last stage of the chain.

        Raises:
            ConfigError: If a stage does not read what it is given.
            WorkdirError: If a stage is not trained.
        """
        options |= {"negative_prompt": negative_prompt}
        return self._draw(num_samples, prompts, seed, options, files=False)

    def draw(
        self,
        num_samples: int | None = None,
        *,
        prompts: Sequence[str] = (),
        negative_prompt: str | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """As :meth:`sample`, into files and pictures in the folders of the stages."""
        options |= {"negative_prompt": negative_prompt}
        return self._draw(num_samples, prompts, seed, options, files=True)

    # What the command calls besides.

    def build(self, name: str, mode: configs.Mode = "train") -> Experiment:
        """Builds the experiment of a stage.

        Args:
            name: Name of the stage.
            mode: What it is built for.

        Returns:
            The experiment.

        Raises:
            ConfigError: If it cannot be run, or names a stage that is yet to be trained.
        """
        asked = self._asked(name)
        with planned(self._planned), stage_errors(name):
            return configs.build(asked, mode=mode)

    @property
    def chain(self) -> Sequence[Link]:
        """What samples come from."""
        return self.config.chain

    # Parts.

    def _asked(self, name: str) -> dict[str, Any]:
        """The complete config of a stage as it is asked for."""
        with planned(self._planned):
            return stage_config(self.config, name, self._places)

    def _open(self, name: str, experiment: Experiment) -> Run:
        """The run of a stage."""
        place = self._places[name]
        there = workdir.has_run(workdir.resolved(place)) and not self._allow
        return Run(
            experiment,
            place,
            quiet=self._quiet,
            own_config=configs.own_config(workdir.resolved(place)) if there else None,
            allow_config_change=self._allow,
        )

    def _unfinished(self) -> list[str]:
        """Stages that there is something to do for, or that are to be looked at more closely.

        What a stage is yet to copy is among the latter: it is restored, and trained again from an
        older checkpoint if the newest is damaged. Nothing of the others is built or read.
        """
        begun = {name for name, place in self._places.items() if sources.version(place) is not None}
        copied = {
            other
            for name in self.names
            if name not in begun
            for other in references(self.config, name)
        }
        found: list[str] = []
        for name in self.names:
            # Once one is to be trained, configs of later ones may depend on what it will be.
            if found or name in copied or not self._is_finished(name):
                found.append(name)
        return found

    def _is_finished(self, name: str) -> bool:
        """Whether a stage was trained to its end under the very config that is asked for now."""
        if name not in self._record.get("finished", []):
            return False
        asked = self._asked(name)
        if self._record["stages"].get(name) != self._written(asked):
            return False
        if not workdir.has_run(workdir.resolved(self._places[name])):
            return False
        with Checkpoints(self._places[name], read_only=True) as checkpoints:
            newest = checkpoints.newest()
            return (
                newest is not None
                and newest[0] >= asked["train"]["num_steps"]
                and not checkpoints.actions_due(newest[0])
            )

    def _build_ahead(self, ahead: Sequence[str]) -> Experiment | None:
        """Builds all stages that are to be trained, as far as can be before they are.

        Returns:
            The first of them, built to be trained.
        """
        first = None
        for name in ahead:
            experiment = self.build(name, mode="plan" if first else "train")
            first = first or experiment
            self._planned[self._places[name]] = experiment.config or {}
        return first

    def _check_sources(self, name: str, ahead: Sequence[str]) -> None:
        """Refuses a stage that has copied earlier ones which are others now, or will be.

        Args:
            name: Name of the stage.
            ahead: Stages that will be trained.
        """
        place = workdir.resolved(self._places[name])
        if sources.version(place) is None:  # it will begin with what there is
            return
        copied = sources.read_sources(place)
        # What it was begun under: stages that it has copied may be gone.
        begun = self._record.get("stages", {}).get(name) or self._written(self._asked(name))
        for where, said in sources.named(begun).items():
            other, versions = said.removeprefix(PREFIX), copied.get(where)
            if other not in self.names or not versions:
                continue
            now = sources.version(self._places[other])
            longer = self._asked(other)["train"]["num_steps"] if now and other in ahead else 0
            if now in versions and not (now and longer > now.step):
                continue
            if not self._allow:
                raise workdir.WorkdirError(
                    f"stage {name!r} has copied stage {other!r} at step {versions[0].step}, "
                    f"{_said_of(now, versions[0], longer)}: delete {place} to train {name!r} anew, "
                    "or allow_config_change to keep what it has copied"
                )
            if now is not None and now not in versions and not jax.process_index():
                sources.accept(place, where, now)

    def _written(self, asked: Mapping[str, Any]) -> Any:
        """The config of a stage as it stands in the record, wherever the pipeline lies."""
        return configs.as_json(with_names(asked, self._places))

    def _write_record(self, finished: Sequence[str]) -> None:
        chain = [dataclasses.asdict(link) for link in self.config.links]
        self._record = {
            "stages": {name: self._written(self._asked(name)) for name in self.names},
            "sample": {"chain": configs.as_json(chain)},
            "finished": list(finished),
        }
        if not jax.process_index():
            content = json.dumps(self._record, indent=2) + "\n"  # in the order of the stages
            write_atomically(self.workdir / RECORD, content)

    def _draw(
        self,
        num_samples: int | None,
        prompts: Sequence[str],
        seed: int | None,
        options: dict[str, Any],
        *,
        files: bool,
    ) -> np.ndarray:
        """Draws from each stage of the chain what the next ones read."""
        chain = self.chain
        for link in chain:
            self._check_sources(link.stage, [])
        runs = [self.stages[link.stage] for link in self.chain]
        in_steps = {k: options[k] for k in _IN_STEPS if options.get(k) is not None}
        if in_steps and not any(map(_goes_in_steps, runs)):
            raise configs.ConfigError(
                f"{', '.join(in_steps)}: no stage of the chain goes from noise to data in steps"
            )
        negative = options.pop("negative_prompt")
        self._check_prompts([*prompts, *([negative] if negative else [])], runs)
        if negative and not any(map(_leads_away, runs)):
            raise configs.ConfigError(
                "negative_prompt: no stage of the chain denoises and can do without its text"
            )
        count = max(runs[0].experiment.sample.num_samples, len(prompts))
        count = count if num_samples is None else num_samples
        asked = [prompts[i % len(prompts)] for i in range(count)] if prompts else None
        made: dict[str, np.ndarray] = {}
        # What several stages are told, such as labels, is the same for all.
        told = {k: v for k, v in options.items() if k not in _IN_STEPS}
        told |= {"tokens": asked} if asked else {}
        for link, run in zip(self.chain, runs, strict=True):
            first, known = not made, run.family.reads
            own = {k: v for k, v in told.items() if k in known or (first and k != "tokens")}
            for feature, source in link.sources.items():
                if source in made or asked:
                    own[feature] = made.get(source, asked)
            steps = dict(in_steps) if _goes_in_steps(run) else {}
            if not {"label", "tokens"} & set(known):
                steps.pop("guidance", None)
            away = {"negative_tokens": negative} if negative and _leads_away(run) else {}
            use = run.experiment.sample.seed if seed is None else seed
            use = use if first else stream_seed(use, link.stage)  # noise of its own
            with _errors_of(link.stage):
                request = run.ask(count, own | away, seed=use, **steps)
            given: dict[str, Any] = dict(request.told)
            draw = run.draw if files else run.sample
            made[link.stage] = draw(count, seed=use, **steps, **given, **away)
            captions = captions_of(request.experiment, request.requests)
            if captions is not None and all(captions):  # another stage may have other tokens
                given["tokens"] = captions
            told = {n: rows for n, rows in given.items() if n not in link.sources} | told
        return made[self.chain[-1].stage]

    def _check_prompts(self, prompts: Sequence[str], runs: Sequence[Run]) -> None:
        """Refuses texts that no stage of the chain reads."""
        if not prompts or any(
            "tokens" in run.family.reads or PROMPT in link.sources.values()
            for run, link in zip(runs, self.chain, strict=True)
        ):
            return
        known = ", ".join(dict.fromkeys(n for run in runs for n in run.family.reads))
        raise configs.ConfigError(
            f"prompts: no stage of the chain reads tokens; they read {known or 'nothing'}"
        )


_IN_STEPS = ("num_steps", "sampler", "guidance")
"""Arguments of sampling from noise to data in steps."""


def _goes_in_steps(run: Run) -> bool:
    """Whether the family of a run goes from noise to data in steps."""
    assert run.config is not None
    return "sampling" in look_up_family(run.config["family"]["name"]).arguments()


def _leads_away(run: Run) -> bool:
    """Whether samples of a run may be led away from a text: it denoises, and can do without one."""
    return run.family.denoising is not None and "tokens" in run.family.unlabelled


class _Stages(Mapping[str, Run]):
    """The runs of a pipeline, opened when they are asked for."""

    def __init__(self, pipeline: Pipeline):
        self._pipeline = pipeline
        self._opened: dict[str, Run] = {}

    def __getitem__(self, name: str) -> Run:
        if name not in self._pipeline.names:
            raise KeyError(name)
        if name not in self._opened:
            experiment = self._pipeline.build(name, mode="sample")
            self._opened[name] = self._pipeline._open(name, experiment)
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pipeline.names)

    def __len__(self) -> int:
        return len(self._pipeline.names)


def plan_stages(pipeline: configs.PipelineConfig) -> Iterator[tuple[str, Experiment]]:
    """Builds each stage of a pipeline in order to plan it: none needs to be trained."""
    known: dict[str, Mapping[str, Any]] = {}
    places = {name: f"{PREFIX}{name}" for name in pipeline.stages}
    for name in pipeline.stages:
        with planned(known):
            asked = stage_config(pipeline, name, places)
            with stage_errors(name):
                experiment = configs.build(asked, mode="plan")
        known[places[name]] = experiment.config or {}
        yield name, experiment


def has_pipeline(place: epath.Path) -> bool:
    """Whether there is a pipeline in a workdir."""
    return (place / RECORD).exists()


@contextlib.contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Makes what a stage refuses an error that names it."""
    try:
        yield
    except configs.ConfigError as error:
        raise configs.ConfigError(f"stages.{name}: {error}") from error
    except workdir.WorkdirError:
        raise
    except ValueError as error:
        raise configs.ConfigError(f"stages.{name}: {error}") from error


def _said_of(now: sources.Version | None, copied: sources.Version, longer: int) -> str:
    """What has become of a stage that another has copied."""
    if now is None:
        return "of which there is no checkpoint now"
    if now.step != copied.step:
        return f"which is at step {now.step} now"
    if now.checksum != copied.checksum:
        return "which has been trained anew since"
    return f"which is to be trained on to step {longer}"


def _read_record(place: epath.Path) -> dict[str, Any]:
    """What a pipeline was; empty if there is none.

    Raises:
        WorkdirError: If it cannot be read.
    """
    if not has_pipeline(place):
        return {}
    try:
        content = json.loads((place / RECORD).read_text())
        if set(content) != {"stages", "sample", "finished"}:
            raise ValueError("it has other sections than stages, sample and finished")
        return dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise workdir.WorkdirError(
            f"{place / RECORD} cannot be read ({error}): delete it, and train with --config to "
            "write it anew; the stages stay as they are"
        ) from error
