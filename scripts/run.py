"""Trains, evaluates or samples an experiment, or plans what it needs.

    python scripts/run.py --config=experiments/vdm/digits.py --workdir=/tmp/digits
    python scripts/run.py --config=experiments/vdm/digits.py --workdir=/tmp/digits --mode=eval
    python scripts/run.py --config=experiments/vdm/cifar10.py --mode=plan

Any key in the experiment file can be set on the command line: ``--config.train.num_steps=500``.
Running the same command again resumes the run, or says that it is done.

Exit codes: 0 done; 2 bad input, said in one line; 1 the run failed; 143 stopped by SIGTERM,
SIGHUP or Ctrl-C with the state saved, to be resumed by the same command; 130 stopped without a
save, by a second Ctrl-C or one while nothing trains.
"""

import contextlib
import dataclasses
import errno
import json
import logging as standard_logging
import os
import platform
import runpy
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "sample", "plan"], "What to do.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port of process 0, of a run of several processes that "
    "neither Cloud TPU nor SLURM has started."
)  # fmt: skip
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes of such a run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process of such a run.")
_ALLOW_CONFIG_CHANGE = flags.DEFINE_bool(
    "allow_config_change", False, "Resume although the config differs from the run's."
)

# Keys that may differ from the run's config: none changes what a step computes (but rounding).
_FREE_KEYS = {
    "data.data_dir",
    "data.device_limit_mib",
    "data.memory_limit_mib",
    "data.num_workers",
    "eval.features.weights",
    "eval.features.workdir",
    "train.num_steps",
}


_LESS_MEMORY = (
    "The last checkpoint is intact. Lower data.batch_size (family.accumulate_steps makes up for "
    "it), set model.remat where the model has it, spread the state with parallel.fsdp, or keep the "
    "data off the devices with data.device_limit_mib=0; --mode=plan says what a step needs"
)


class InputError(ValueError):
    """The command cannot be run as given; the message is one line."""


def main(_: list[str]) -> None:
    """Runs the command; bad input ends in one line and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    # What fails while a checkpoint is written is raised; each thread would log it besides.
    for name in ("asyncio", "concurrent.futures"):
        standard_logging.getLogger(name).setLevel(standard_logging.CRITICAL)
    logging.get_absl_logger().addFilter(lambda r: not (r.exc_info and "orbax" in r.pathname))
    sys.unraisablehook = _unraisable
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    # TFDS, on decoding its first image.
    logging.get_absl_logger().addFilter(lambda r: "OpenCV is not installed" not in str(r.msg))
    # Before jax starts its threads, which otherwise bring arenas of their own.
    from genjax.training.allocator import keep_freed_memory
    from genjax.training.signals import end_on_interrupt

    end_on_interrupt()
    keep_freed_memory()
    import jax

    _keep_compiled_programs()
    from genjax import builders, data
    from genjax.training.checkpoints import CheckpointError, SaveError
    from genjax.training.loop import NonFiniteError, Preempted

    try:
        _run()
    except (InputError, builders.ConfigError, data.MissingDataError, CheckpointError) as error:
        _leave(_fail(str(error), 2))
    except (NonFiniteError, SaveError, data.DamagedDataError) as error:
        _leave(_fail(str(error), 1))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _leave(
            _fail(f"{error}: the last checkpoint is intact; make room, and the same command "
                  "goes on from there", 1)
        )  # fmt: skip
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _leave(
            _fail(f"out of device memory ({str(error).splitlines()[0][:200]}). {_LESS_MEMORY}", 1)
        )
    except Preempted as error:
        _tell(f"{error}; the same command resumes it")
        _leave(143)


def _leave(code: int) -> NoReturn:
    """Ends the process; the training step, if it is still compiled, is not waited for."""
    from genjax.training.stepping import is_compiling

    if is_compiling():
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _unraisable(unraisable: Any) -> None:
    """Leaves out what tensorstore's threads say when a write ends after the save has failed.

    There may be thousands of these, in the midst of the line that says what failed.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _keep_compiled_programs() -> None:
    """Sets jax's cache of compiled programs, which the environment may say otherwise."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    # Programs for a CPU are for its kind, and a home directory may be that of several machines.
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith(("model name", "flags"))]
        kind = f"{zlib.crc32(''.join(sorted(set(lines))).encode()):08x}"
    except OSError:  # not Linux
        kind = platform.node()
    place = os.path.join(root, "genjax", f"jax-{jax.__version__}-{platform.machine()}-{kind}")
    jax.config.update("jax_compilation_cache_dir", place)


def _fail(message: str, code: int) -> int:
    _tell(f"error: {' '.join(message.split())}")
    return code


def _tell(line: str) -> None:
    """Writes a line at once, as other threads write, too; exit codes do not depend on success."""
    with contextlib.suppress(OSError):  # as of a pipe whose reader Ctrl-C has ended
        sys.stderr.write(f"{line}\n")


def _run() -> None:
    from rich.console import Console

    config = _CONFIG.value
    if config is None:
        raise InputError("--config is missing: give an experiment file, such as "
                         "--config=experiments/vdm/digits.py")  # fmt: skip
    if _MODE.value == "plan":
        _plan(config)
        return
    if not _WORKDIR.value:
        raise InputError("--workdir is missing: give the directory of the run")
    import jax

    from genjax import builders
    from genjax.training import processes
    from genjax.training.logs import is_remote

    builders.divide_cpu(config)
    try:
        processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    except ValueError as error:
        raise InputError(str(error)) from error

    mode: Any = _MODE.value
    experiment = builders.build(config, mode=mode)
    workdir = epath.Path(_WORKDIR.value)
    if not is_remote(workdir):
        workdir = workdir.expanduser().resolve()
    quiet = jax.process_index() > 0
    console = Console(highlight=False, markup=False, soft_wrap=True, quiet=quiet)
    resolved = json.loads(json.dumps(builders.as_dict(config)))
    _check_config(workdir, resolved)
    processes.meet("config checked")  # before any of them writes
    if _MODE.value != "train" and not (workdir / "checkpoints").exists():
        raise InputError(f"there is no checkpoint in {workdir}: train first (--mode=train)")
    _make_writable(workdir)
    run = Run(experiment, workdir, console)
    if _MODE.value == "train":
        run.train(resolved)
    elif _MODE.value == "eval":
        run.evaluate()
    else:
        run.sample()


def _plan(config: Any) -> None:
    """Prints what a training step needs of each device; allocates nothing."""
    count = config.get("parallel", {}).get("plan_devices", 0)
    if count:
        if not isinstance(count, int) or count < 1:
            raise InputError(f"parallel.plan_devices must be a positive number, got {count!r}")
        # Before jax looks for devices.
        flag = f"--xla_force_host_platform_device_count={count}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    import jax
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from genjax import builders
    from genjax.training.plan import plan
    from genjax.training.stepping import resident_bytes

    if count:
        jax.config.update("jax_platforms", "cpu")
    else:
        builders.divide_cpu(config)

    experiment = builders.build(config, mode="plan")
    batch_size = experiment.data.batch_size
    one = experiment.train_data.source.rows(np.zeros(1, int))
    rows = {name: np.broadcast_to(a, (batch_size, *a.shape[1:])) for name, a in one.items()}
    family, mesh = experiment.on_devices()
    needs = plan(family, experiment.state_shapes, rows, mesh)
    mib = 2.0**20
    table = Table("of one device", "MiB", title=f"a step of {batch_size} examples")
    held = resident_bytes(experiment.train_data.source, experiment.data.device_limit_mib)
    for name in ("state", "batch", "temporary"):
        table.add_row(name, f"{getattr(needs, f'{name}_bytes') / mib:,.1f}")
    table.add_row("data set", f"{held / mib:,.1f}")
    table.add_row("peak", f"{(needs.peak_bytes + held) / mib:,.1f}")
    for name, (number, size) in needs.collectives.items():
        table.add_row(f"{number} x {name}, results", f"{size / mib:,.1f}")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    axes = " x ".join(f"{name} {size}" for name, size in needs.mesh.items())
    console.print(
        f"{needs.num_params:,} parameters; mesh {axes} of {jax.devices()[0].device_kind}; "
        f"{needs.flops:.3g} FLOP of products a device and step, which read and write "
        f"{needs.matrix_bytes / 2**30:.3g} GiB; nothing was allocated"
    )


def _make_writable(workdir: epath.Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InputError(f"the workdir {workdir} cannot be written: {error}") from error


def _check_config(workdir: epath.Path, resolved: Mapping[str, Any]) -> None:
    """Refuses a config that is not the run's, where there is work to protect."""
    from genjax import builders

    path = workdir / "config.json"
    if not (workdir / "checkpoints").exists() or _ALLOW_CONFIG_CHANGE.value:
        return
    try:
        own = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{workdir} has checkpoints, but its config.json cannot be read ({error}); "
            "--allow_config_change writes it anew"
        ) from error
    changed = set(builders.changed_keys(own, resolved)) - _FREE_KEYS
    # A state goes on on any devices; only the strategy changes what a step computes.
    changed = {
        key for key in changed if not key.startswith("parallel.") or key == "parallel.strategy"
    }
    if _MODE.value != "train":
        changed = {key for key in changed if key.split(".")[0] not in ("eval", "sample")}
    if changed:
        raise InputError(
            f"the config differs from that of the run in {workdir}: {', '.join(sorted(changed))}; "
            "use another --workdir, or --allow_config_change to go on all the same"
        )


def _lock(workdir: epath.Path) -> Any:
    """Keeps a second run out of the workdir until this process ends, however it ends."""
    import fcntl

    from genjax.training.logs import is_remote

    if is_remote(workdir):  # object stores have no locks
        return None
    file = open(workdir / ".lock", "w")  # noqa: SIM115 - open, and locked, until the process ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"another run is going on in {workdir}; wait for it or stop it") from error
    return file


class Run:
    """One experiment in one workdir."""

    def __init__(self, experiment: Any, workdir: epath.Path, console: Any):
        import jax

        from genjax.training.evaluate import Evaluator
        from genjax.training.logs import MetricLog
        from genjax.training.random import random_key
        from genjax.training.stepping import state_template

        self.experiment = experiment
        self.workdir = workdir
        self.console = console
        self.writes = jax.process_index() == 0
        self.family, self.mesh = experiment.on_devices()
        self.train_batches = experiment.train_batches()
        self.log = MetricLog(workdir, active=self.writes)
        self.evaluator = Evaluator(self.family, self.mesh, progress=self._progress)
        self.init_key = random_key(experiment.train.seed, "init")
        self.train_key = random_key(experiment.train.seed, "train")
        self.template = state_template(experiment.state_shapes, self.mesh)
        self.bars = _bars(console, shown=self.writes)
        self._stop: Any = None

    # Modes.

    def train(self, resolved: Mapping[str, Any]) -> None:
        """Trains to the end, from the newest checkpoint if there is one."""
        import jax

        from genjax.training import logs, loop, signals, stepping
        from genjax.training.checkpoints import Checkpoints
        from genjax.training.processes import AgreedStop

        self._lock = _lock(self.workdir) if self.writes else None
        if jax.process_count() > 1:
            stop = AgreedStop().reached
            signals.notice_interrupts()
        else:
            self._stop = requested = signals.stop_on_signals()

            def stop(step: int) -> bool:
                return requested.is_set()

        settings = self.experiment.train
        with (
            Checkpoints(
                self.workdir, keep=settings.keep_checkpoints, best_metric=settings.best_metric
            ) as checkpoints,
            self.log,
        ):
            restored = checkpoints.restore(self.template)
            step, state, host_state = restored or (0, None, None)
            actions_due = checkpoints.actions_due(step)
            if step >= settings.num_steps and not actions_due:
                self.console.print(
                    f"{self.workdir} is at step {step} of {settings.num_steps}: nothing to do"
                )
                return
            if self.writes:
                text = json.dumps(resolved, indent=2, sort_keys=True) + "\n"
                logs.write_atomically(self.workdir / "config.json", text)
            self.log.rewind(step, actions_due=actions_due)
            self._summary(step, resolved)
            # Compiles while a new state is made.
            training = stepping.TrainingSteps(
                self.family, self.template, self._feed(), key=self.train_key, mesh=self.mesh
            )
            if state is None:
                state = stepping.init_state(
                    self.family, self.init_key, self.train_batches[0], self.mesh
                )
            with self.bars:
                loop.train(
                    state,
                    training,
                    num_steps=settings.num_steps,
                    log=self.log,
                    checkpoints=checkpoints,
                    periods=self._periods(),
                    evaluate=self._evaluate,
                    sample=self._draw,
                    host_state=host_state,
                    on_step=self._training_progress(step),
                    stop=stop,
                )
        self.console.print(f"done: {self.workdir} is at step {settings.num_steps}")

    def evaluate(self) -> None:
        """Evaluates the newest checkpoint."""
        step, state = self._newest()
        with self.log, self.bars:
            self._evaluate(step, state)

    def sample(self) -> None:
        """Samples from the newest checkpoint."""
        if self.family.sample is None:
            raise InputError("this family generates nothing to sample")
        step, state = self._newest()
        with self.log, self.bars:
            self._draw(step, state)

    # Parts.

    def _feed(self) -> Any:
        """Where the batches of training come from, and the most steps of a compiled call."""
        from genjax.training import stepping

        settings = self.experiment.data
        most = self.experiment.train.steps_per_call
        if most > 1 and not stepping.loops_well(
            self.experiment.family, self.experiment.state_shapes, self.train_batches[0]
        ):
            self.console.print(
                "one step a call instead of train.steps_per_call: convolutions in loops are slow "
                "on CPUs"
            )
            most = 1
        return stepping.make_feed(
            self.train_batches,
            self.mesh,
            most=most,
            device_limit_mib=settings.device_limit_mib,
            num_workers=settings.num_workers,
        )

    def _periods(self) -> Any:
        """The periods of the loop; none between samples of what generates nothing."""
        periods = self.experiment.train.periods
        if self.family.sample is None:
            periods = dataclasses.replace(periods, sample=0)
        return periods

    def _newest(self) -> tuple[int, Any]:
        from genjax.training.checkpoints import Checkpoints

        with Checkpoints(self.workdir, read_only=True) as checkpoints:
            restored = checkpoints.restore(self.template)
        if restored is None:
            raise InputError(
                f"there is no checkpoint in {self.workdir}: train first (--mode=train)"
            )
        step, state, _ = restored
        return step, state

    def _evaluate(self, step: int, state: Any) -> dict[str, Any]:
        family = self.family
        result: dict[str, Any] = {}
        if family.eval_step is not None:
            result |= self._evaluate_examples(state)
        if self.experiment.quality is not None:
            result |= self._measure_samples(state)
        result |= {"seed": self.experiment.eval.seed, **family.eval_protocol}
        named = {f"eval/{name}": value for name, value in result.items()}
        self._print_eval(step, result)
        self.log.write(step, named)
        return named

    def _evaluate_examples(self, state: Any) -> dict[str, Any]:
        """One pass over the test split."""
        import jax

        from genjax.data import EvalBatches, iterate
        from genjax.training.mesh import filled_up
        from genjax.training.random import random_key

        settings = self.experiment.eval
        batches = EvalBatches(
            self.experiment.test_data.source,
            filled_up(settings.batch_size, self.mesh),  # results do not depend on it
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        result = self.evaluator.evaluate(
            state,
            iterate(batches, 0, len(batches), num_workers=self.experiment.data.num_workers),
            len(batches),
            random_key(settings.seed, "eval"),
        )
        return {**result, "split": self.experiment.data.test_split}

    def _measure_samples(self, state: Any) -> dict[str, Any]:
        """Samples against the reference split."""
        from genjax.training.random import random_key

        settings, quality = self.experiment.eval, self.experiment.quality
        requests = self.experiment.sample_requests(quality.num_samples)
        drawn = self.evaluator.sample(
            state,
            requests,
            random_key(settings.seed, "eval_samples"),
            batch_size=min(settings.batch_size, quality.num_samples),
        )
        return quality.measure(
            drawn["samples"],
            requests.get("label"),
            mesh=self.mesh,
            batch_size=settings.batch_size,
            progress=self._progress,
        )

    def _draw(self, step: int, state: Any) -> None:
        import jax
        import numpy as np

        from genjax.training import pictures
        from genjax.training.random import random_key

        settings = self.experiment.sample
        dataset = self.experiment.train_data
        requests = self.experiment.sample_requests(settings.num_samples)
        drawn = self.evaluator.sample(
            state,
            requests,
            random_key(settings.seed, "sample"),
            batch_size=settings.batch_size or settings.num_samples,
        )
        if not self.writes:
            return
        folder = self.workdir / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"step_{step:08d}"
        arrays: dict[str, Any] = {"samples": drawn["samples"]}
        if dataset.num_levels:
            arrays["num_levels"] = np.asarray(dataset.num_levels)
        if "label" in requests:
            arrays["label"] = requests["label"]
        with (folder / f"{stem}.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)

        shown = {"samples": self._picture(drawn["samples"])}
        if "trajectory" in drawn:
            shown["trajectory"] = self._trajectory_picture(drawn["trajectory"])
        if "density" in drawn:
            rows = dataset.source.rows(np.arange(min(5000, len(dataset.source))))
            shown["density"] = pictures.density_map(
                drawn["density"], float(drawn["density_reach"]), rows["x"]
            )
        curves = self.family.curves
        if curves is not None:
            shown["curves"] = pictures.plot_curves(jax.device_get(jax.jit(curves)(state)))
        for name, pixels in shown.items():
            suffix = "" if name == "samples" else f"_{name}"
            pictures.write_png(folder / f"{stem}{suffix}.png", pixels)
            self.log.image(step, name, pixels)
        self.console.print(f"step {step}: {len(drawn['samples'])} samples in {folder}/{stem}.png")

    def _picture(self, samples: Any) -> Any:
        from genjax.training import pictures

        return pictures.samples_picture(samples, self.experiment.train_data.num_levels)

    def _trajectory_picture(self, frames: Any) -> Any:
        from genjax.training import pictures

        levels = self.experiment.train_data.num_levels
        if levels:  # one row a sample, time from left to right
            rows = frames.swapaxes(0, 1)
            return pictures.image_grid(
                rows.reshape(-1, *rows.shape[2:]), levels, columns=rows.shape[1]
            )
        return pictures.scatter(frames)

    # Talk.

    def _summary(self, step: int, resolved: Mapping[str, Any]) -> None:
        import jax
        from rich.table import Table

        table = Table("network", "part", "parameters", title=f"{self.workdir}")
        total = 0
        for network, tree in self.template.params.items():
            for part, branch in sorted(tree.items()):
                count = sum(leaf.size for leaf in jax.tree.leaves(branch))
                total += count
                table.add_row(network, part, f"{count:,}")
        table.add_row("total", "", f"{total:,}")
        data = self.experiment.train_data
        self.console.print(table)
        self.console.print(
            f"{data.name}: {len(data.source):,} training and "
            f"{len(self.experiment.test_data.source):,} test examples of shape {data.event_shape}; "
            f"{self.mesh.size} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
        )
        self.console.print_json(data=resolved, sort_keys=True)
        self.console.print(f"{'resuming at' if step else 'starting from'} step {step}; compiling")

    def _print_eval(self, step: int, result: Mapping[str, Any]) -> None:
        """Numbers with their spread, then in brackets how they were made."""
        spreads = {f"{name}_{kind}" for name in result for kind in ("stderr", "std")}
        counts = {"num_examples": "examples of", "num_samples": "samples against"}
        numbers = []
        for name, value in result.items():
            if isinstance(value, float) and name not in spreads:
                around = [
                    result[f"{name}_{k}"] for k in ("stderr", "std") if f"{name}_{k}" in result
                ]
                numbers.append(f"{name} {value:.4f}" + (f" ± {around[0]:.4f}" if around else ""))
        made = [
            f"{result[count]} {what} {result[of]}"
            for (count, what), of in zip(counts.items(), ("split", "reference"), strict=True)
            if count in result
        ]
        shown = {*counts, "split", "reference"}
        made += [
            f"{name} {value}"
            for name, value in result.items()
            if not isinstance(value, float) and name not in shown
        ]
        self.console.print(f"step {step}: {'; '.join(numbers)} ({', '.join(made)})")

    def _progress(self, items: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        """Shows progress through ``items``; gives way to a request to stop."""
        from genjax.training.loop import StopRequested

        task = self.bars.add_task(label, total=total, rate="")
        try:
            for item in items:
                if self._stop is not None and self._stop.is_set():
                    raise StopRequested
                yield item
                self.bars.advance(task)
        finally:
            self.bars.remove_task(task)

    def _training_progress(self, first: int) -> Callable[[int, Mapping[str, float]], None]:
        """Shows where training is: a bar on a terminal, and a line a log step everywhere."""
        num_steps = self.experiment.train.num_steps
        task = self.bars.add_task("training", total=num_steps, completed=first, rate="")
        printed: Mapping[str, float] = {}
        warned: set[str] = set()
        diagnose = self.family.diagnose

        def on_step(step: int, latest: Mapping[str, float]) -> None:
            nonlocal printed, warned
            self.bars.update(task, completed=step)
            if latest is printed or not latest or not self.writes:
                return
            printed = latest
            rate = latest["train/steps_per_second"]
            left = (num_steps - step) / rate
            self.bars.update(task, rate=f"{rate:.2f} steps/s")
            numbers = "  ".join(
                f"{name} {latest[f'train/{name}']:.4g}"
                for name in ("loss", "critic_loss", "generator_loss", "grad_norm")
                if f"train/{name}" in latest
            )
            self.console.print(
                f"step {step}/{num_steps}  {numbers}  {rate:.2f} steps/s  "
                f"{left // 60:.0f}:{left % 60:02.0f} left"
            )
            if diagnose is None:
                return
            means = {name.removeprefix("train/"): value for name, value in latest.items()}
            lines = {line.partition(":")[0]: line for line in diagnose(means)}
            for kind in lines.keys() - warned:  # said again only after it had gone
                self.console.print(f"warning: step {step}: {lines[kind]}")
            warned = set(lines)

        return on_step


def _bars(console: Any, *, shown: bool) -> Any:
    """Progress bars with counts, rate and time left; nothing where there is no terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[rate]}"),
        console=console,
        disable=not (shown and console.is_terminal),
    )


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; what is wrong with it ends in one line and exit code 2."""
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.to_dict()  # an experiment file that failed to load raises here
    except (flags.Error, OSError, ValueError) as error:
        # What an experiment file raised comes wrapped in its traceback: its last line says it.
        where, _, trace = str(error).partition("Traceback")
        last = trace.strip().splitlines()[-1:] if trace else []
        sys.exit(_fail(" ".join([where, *last]), 2))
    except (AttributeError, KeyError):
        message = _unknown_key(argv)
        if message is None:
            raise
        sys.exit(_fail(message, 2))
    if len(rest) > 1:
        sys.exit(_fail(f"unexpected argument {rest[1]!r}", 2))
    return rest


def _unknown_key(argv: list[str]) -> str | None:
    """Says which override has a key that the experiment file does not have, if any does."""
    from genjax import builders

    names = [a.lstrip("-").partition("=")[0] for a in argv[1:] if a.startswith("-")]
    # The flags have not been parsed: --config=FILE or --config FILE.
    words = [word for a in argv[1:] for word in a.lstrip("-").split("=", 1)]
    file, _, argument = words[words.index("config") + 1].partition(":")
    config = runpy.run_path(file)["get_config"](*([argument] if argument else []))
    paths = [name.removeprefix("config.") for name in names if name.startswith("config.")]
    messages = (builders.unknown_key(config, path) for path in paths)
    return next((message for message in messages if message), None)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
