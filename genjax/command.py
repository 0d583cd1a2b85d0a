"""The command: flags, signals, exit codes. ``scripts/run.py`` and ``python -m genjax`` are it."""

import contextlib
import errno
import logging as standard_logging
import os
import platform
import sys
import textwrap
import traceback
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NoReturn

from absl import app, flags, logging

_CONFIG = flags.DEFINE_string(
    "config",
    None,
    "Experiment file; to evaluate or sample, that of the run in the workdir if none.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval", "sample", "edit", "export", "plan"], "What to do."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port of process 0, of a run of several processes that "
    "neither Cloud TPU nor SLURM has started."
)  # fmt: skip
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes of such a run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process of such a run.")
_ALLOW_CONFIG_CHANGE = flags.DEFINE_bool(
    "allow_config_change", False, "Resume although the config differs from the run's."
)
_PROMPT = flags.DEFINE_multi_string(
    "prompt", [], "Text to sample from, of a model of captions; repeated, samples take turns."
)
_PROMPTS = flags.DEFINE_string("prompts", None, "File of such texts, one a line.")
_NEGATIVE_PROMPT = flags.DEFINE_string(
    "negative_prompt", None, "Text that guidance leads away from."
)
_GUIDANCE = flags.DEFINE_float(
    "guidance", None, "Scale of the guidance of samples, classifier-free if none is configured."
)
_SAMPLER = flags.DEFINE_string("sampler", None, "Name of a sampler, such as ddim.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", None, "Steps from noise to samples.")
_SEED = flags.DEFINE_integer("seed", None, "Seed of samples.")
_SAMPLING: tuple[flags.FlagHolder[Any], ...] = (
    _PROMPT, _PROMPTS, _NEGATIVE_PROMPT, _GUIDANCE, _SAMPLER, _NUM_STEPS, _SEED
)  # fmt: skip
_OWN: tuple[flags.FlagHolder[Any], ...] = (
    _CONFIG, _WORKDIR, _MODE, _ALLOW_CONFIG_CHANGE, *_SAMPLING, _COORDINATOR, _NUM_PROCESSES,
    _PROCESS_ID,
)  # fmt: skip

_LESS_MEMORY = (
    "The last checkpoint is intact. Lower data.batch_size (family.accumulate_steps makes up for "
    "it), set model.remat where the model has it, spread the state with parallel.fsdp, or keep the "
    "data off the devices with data.device_limit_mib=0; --mode=plan says what a step needs"
)
_HELP = """\
Trains, evaluates, samples or exports an experiment, or plans what it needs.

  python scripts/run.py --config=FILE --workdir=DIR [--mode=MODE] [--config.SECTION.KEY=VALUE ...]
  (python -m genjax is the same command)

The file may be that of a pipeline, whose stages are trained one after the other, each in a folder
of DIR; their keys are --config.stages.NAME.SECTION.KEY.

Modes:
  train    to the end of train.num_steps; the same command again goes on where it was stopped
  eval     measures test rows and samples of the newest checkpoint; appends to metrics.jsonl
  sample   draws sample.num_samples; writes a picture and an .npz
  edit     does what edit.name says: vary, interpolate, inpaint, components, class_direction; writes
           pictures and an .npz, and appends to metrics.jsonl
  export   writes programs (StableHLO) and parameters (safetensors) for use without this package
  plan     says what a training step needs of each device, which need not be there

Flags:
{flags}
  --helpfull             All flags, those of libraries too.

Overrides: any key of the config, in the file or not, such as --config.train.num_steps=500. Values
are numbers, text, true, false, None, "(1, 2)" or "{{'r1': 0.1}}". A name may be an import path:
--config.model.name=galaxies.nets:UNet. A file may take an argument after a colon:
--config=experiments/gan/ring2d.py:wgan_gp. docs/configs.md says how configs work, the page "Config
reference" of the documentation has every key; a key that does not exist is answered with those
that do.

Files in DIR: config.json (the complete config), checkpoints, metrics.jsonl, samples, edits,
tensorboard. Exit codes: 0 done; 2 bad input, said in one line; 1 the run failed; 143 stopped with
the state saved; 130 stopped without."""
_overrides: list[str] = []


class InputError(ValueError):
    """The command cannot be run as given; the message is one line."""


def run() -> None:
    """Runs the command with the words it was called with."""
    app.run(main, flags_parser=_parse_flags)


def main(_: list[str]) -> None:
    """Runs the command; bad input ends in one line and exit code 2."""
    _quieten()
    # Before jax starts its threads, which otherwise bring arenas of their own.
    from genjax.training.allocator import keep_freed_memory
    from genjax.training.signals import end_on_interrupt

    end_on_interrupt()
    keep_freed_memory()
    import jax

    _keep_compiled_programs()
    from genjax import config, data
    from genjax.training.checkpoints import CheckpointError, SaveError
    from genjax.training.edits import EditError
    from genjax.training.loop import NonFiniteError, Preempted
    from genjax.training.workdir import WorkdirError

    bad_input = (
        InputError, config.ConfigError, data.MissingDataError, CheckpointError, WorkdirError,
        EditError,
    )  # fmt: skip
    try:
        _plan() if _MODE.value == "plan" else _run()
    except bad_input as error:
        _leave(_fail(str(error), 2))
    except SaveError as error:
        # Orbax's threads may wait for minutes for what the failed save has never made.
        _end(_fail(str(error), 1))
    except (NonFiniteError, data.DamagedDataError) as error:
        _leave(_fail(str(error), 1))
    except MemoryError as error:
        _leave(
            _fail(f"out of memory of this machine ({error}). Lower data.batch_size, "
                  "eval.batch_size, sample.num_samples or data.memory_limit_mib", 1)
        )  # fmt: skip
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
    except Exception:
        if not _has_peers():
            raise
        traceback.print_exc()
        _leave(1)


def _run() -> None:
    """Trains, evaluates or samples."""
    if not _WORKDIR.value:
        if _CONFIG.value is None:
            raise _no_config()
        raise InputError("--workdir is missing: give the directory of the run")
    from genjax import config
    from genjax.pipeline import has_pipeline
    from genjax.training import workdir
    from genjax.training.run import Run

    mode: Any = _MODE.value
    options = _sampling_options()
    place = workdir.resolved(_WORKDIR.value)
    there = workdir.has_run(place)  # what cannot be reached is said before data is read
    staged = has_pipeline(place)
    if _is_pipeline() if _CONFIG.value is not None else staged:
        _run_pipeline(place, mode, options)
        return
    if staged:
        raise InputError(
            f"{place} holds a pipeline, whose runs are in the folders of its stages: give its "
            "--config, or the folder of a stage"
        )
    complete = _read_config(place)
    config.divide_cpu(complete)
    _join()

    experiment = config.build(complete, mode=mode)
    own = None
    if there and not _ALLOW_CONFIG_CHANGE.value:
        own = config.own_config(place)
    going = Run(experiment, place, own_config=own, allow_config_change=_ALLOW_CONFIG_CHANGE.value)
    modes: dict[str, Callable[[], Any]] = {
        "train": going.train, "eval": going.evaluate, "edit": going.draw_edit,
        "sample": lambda: _draw(going, options), "export": going.export,
    }  # fmt: skip
    modes[mode]()


def _run_pipeline(place: Any, mode: str, options: dict[str, Any]) -> None:
    """Trains, evaluates or samples a pipeline."""
    from genjax.pipeline import Pipeline

    if _CONFIG.value is None and mode == "train":
        raise _no_config()
    allow = _ALLOW_CONFIG_CHANGE.value
    pipeline = Pipeline(_CONFIG.value, place, _overrides, allow_config_change=allow)
    _join()
    modes: dict[str, Callable[[], Any]] = {
        "train": pipeline.train,
        "eval": pipeline.evaluate,
        "sample": lambda: pipeline.draw(**options),
        "edit": lambda: pipeline.stages[pipeline.chain[-1].stage].draw_edit(),
        "export": lambda: [pipeline.stages[link.stage].export() for link in pipeline.chain],
    }
    modes[mode]()


def _is_pipeline() -> bool:
    """Whether the experiment file is that of a pipeline."""
    from genjax import config

    return config.is_pipeline(_CONFIG.value)


def _join() -> None:
    """Joins the other processes of the run, if there are any."""
    from genjax.training import processes

    try:
        processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    except ValueError as error:
        raise InputError(str(error)) from error


def _sampling_options() -> dict[str, Any]:
    """What flags say of samples: prompts, seed, and how they are drawn."""
    given = [holder.name for holder in _SAMPLING if holder.value not in (None, [])]
    if given and _MODE.value != "sample":
        raise InputError(f"--{given[0]} is for --mode=sample")
    prompts = list(_PROMPT.value)
    if _PROMPTS.value is not None:
        try:
            with open(_PROMPTS.value, encoding="utf-8") as file:
                prompts += [line.strip() for line in file if line.strip()]
        except (OSError, ValueError) as error:
            raise InputError(f"--prompts: {_PROMPTS.value} cannot be read: {error}") from error
        if not prompts:
            raise InputError(f"--prompts: {_PROMPTS.value} has no line with a text")
    if _SEED.value is not None and not 0 <= _SEED.value < 2**32:
        raise InputError(f"--seed must be in [0, 2**32), got {_SEED.value}")
    values = {"seed": _SEED.value, "num_steps": _NUM_STEPS.value, "sampler": _SAMPLER.value,
              "guidance": _GUIDANCE.value, "prompts": prompts or None,
              "negative_prompt": _NEGATIVE_PROMPT.value}  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


def _draw(going: Any, options: dict[str, Any]) -> None:
    """Draws samples of a run, prompts in turn."""
    from genjax.training.workdir import WorkdirError

    prompts, away = options.pop("prompts", []), options.pop("negative_prompt", None)
    count = max(going.experiment.sample.num_samples, len(prompts))
    reads: dict[str, Any] = {}
    if prompts:
        reads["tokens"] = [prompts[i % len(prompts)] for i in range(count)]
    if away is not None:
        reads["negative_tokens"] = away
    try:
        going.ask(count, reads, **options)
    except WorkdirError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    going.draw(count, **reads, **options)


def _plan() -> None:
    """Prints what a training step needs of each device; allocates nothing."""
    from genjax import config
    from genjax.pipeline import plan_stages

    _sampling_options()  # are refused
    staged = _CONFIG.value is not None and _is_pipeline()
    pipeline = config.read_pipeline(_CONFIG.value, _overrides) if staged else None
    complete = _read_config() if pipeline is None else {"parallel": config.parallel_of(pipeline)}
    count = config.parallel_settings(complete).plan_devices
    if count:
        # Before jax looks for devices.
        flag = f"--xla_force_host_platform_device_count={count}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    import jax

    from genjax.training.plan import plan_experiment, print_plan

    if count:
        jax.config.update("jax_platforms", "cpu")
    else:
        config.divide_cpu(complete)
    if pipeline is None:
        experiment = config.build(complete, mode="plan")
        print_plan(experiment, plan_experiment(experiment))
        return
    for name, experiment in plan_stages(pipeline):
        print(f"stage {name}")
        print_plan(experiment, plan_experiment(experiment))


def _read_config(place: Any = None) -> Any:
    """The complete config of the experiment file, or of the run that is looked at, overridden."""
    from genjax import config
    from genjax.training import workdir

    if _CONFIG.value is not None:
        return config.load_config(_CONFIG.value, _overrides)
    if place is None or _MODE.value == "train":
        raise _no_config()
    if not workdir.has_run(place):
        raise InputError(f"there is no run in {place}: train first (--mode=train)")
    return config.load_config(workdir.read_config(place), _overrides)


def _no_config() -> InputError:
    return InputError(
        "--config is missing: give an experiment file, such as --config=experiments/vdm/digits.py"
    )


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; what is wrong with it ends in one line and exit code 2.

    Overrides are kept for later: which keys there are is known when the experiment file is read.
    """
    own, overrides, words = argv[:1], [], argv[1:]
    while words:
        word = words.pop(0)
        if word.startswith(("--config.", "-config.")):
            overrides.append(word)
            if "=" not in word and words and not words[0].startswith("--"):
                overrides.append(words.pop(0))
        else:
            own.append(word)
    _overrides[:] = overrides
    if {"--help", "-help", "-h", "-?", "--helpshort", "-helpshort"} & set(own[1:]):
        print(_page())
        sys.exit(0)
    try:
        rest = flags.FLAGS(own)
    except flags.Error as error:
        sys.exit(_fail(str(error), 2))
    if len(rest) > 1:
        sys.exit(_fail(f"unexpected argument {rest[1]!r}", 2))
    return rest


def _page() -> str:
    """What ``--help`` prints: one screen."""
    own = [flags.FLAGS[holder.name] for holder in _OWN]
    lines = [
        textwrap.fill(
            f"--{flag.name:<20} {(flag.help or '').partition(';')[0]}",
            98,
            initial_indent="  ",
            subsequent_indent=" " * 25,
        )
        for flag in own
    ]
    return _HELP.format(flags="\n".join(lines))


def _quieten() -> None:
    """Leaves out what libraries say besides the one line that says what failed."""
    logging.set_verbosity(logging.WARNING)
    # What fails while a checkpoint is written is raised; each thread would log it besides.
    for name in ("asyncio", "concurrent.futures"):
        standard_logging.getLogger(name).setLevel(standard_logging.CRITICAL)
    logging.get_absl_logger().addFilter(lambda r: not (r.exc_info and "orbax" in r.pathname))
    sys.unraisablehook = _unraisable
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    # TFDS, on decoding its first image.
    logging.get_absl_logger().addFilter(lambda r: "OpenCV is not installed" not in str(r.msg))


def _leave(code: int) -> NoReturn:
    """Ends the process without waiting for what need not end.

    That is the training step, if it is still compiled, and other processes of the run: one that has
    failed by itself would wait for minutes for them to leave as well, and they for it. (All stop
    after a signal together.)
    """
    from genjax.training.step import is_compiling

    if is_compiling() or (code != 143 and _has_peers()):
        _end(code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    """Ends the process without waiting for any of its threads."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def _has_peers() -> bool:
    import jax

    return bool(jax.distributed.is_initialized()) and jax.process_count() > 1


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
