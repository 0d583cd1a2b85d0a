"""From configs to objects. The only module that reads configs.

A section of a config is a ``name`` and keyword arguments of the function of that name in the table
below it. Defaults live in that function's signature, once; an argument it does not have, or of a
wrong type, is a :class:`ConfigError` before anything is compiled.
"""

import dataclasses
import difflib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from beartype import BeartypeConf
from beartype.door import is_bearable

from genjax import data, nets
from genjax.diffusion import schedules
from genjax.families import vdm
from genjax.families.base import Family, TrainState
from genjax.training import optimizers
from genjax.training.loop import Periods

NETS: Mapping[str, Callable[..., Any]] = {
    "score_mlp": nets.ScoreMLP,
    "score_resnet": nets.ScoreResNet,
}
SCHEDULES: Mapping[str, Callable[..., Any]] = {
    "fixed_linear": schedules.FixedLinearSchedule,
    "learned_linear": schedules.LearnedLinearSchedule,
    "learned_monotone": schedules.LearnedMonotoneSchedule,
}
OPTIMIZERS: Mapping[str, Callable[..., Any]] = {
    "adamw": optimizers.adamw,
}


class ConfigError(ValueError):
    """A config that cannot be run; the message is one line and names the key."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """All that a config describes.

    Attributes:
        family: The model and how it is trained.
        state_shapes: Its state as ``jax.ShapeDtypeStruct`` leaves.
        train_data: Split to train on.
        test_data: Split to evaluate on.
        train: Settings of the loop.
        eval: Settings of evaluation.
        sample: Settings of sampling.
        data: Settings of the batches.
        num_classes: Number of classes if the model is conditional on labels, else None.
    """

    family: Family
    state_shapes: TrainState
    train_data: data.DataSet
    test_data: data.DataSet
    train: "TrainSettings"
    eval: "EvalSettings"
    sample: "SampleSettings"
    data: "DataSettings"
    num_classes: int | None

    def sample_requests(self, num_samples: int) -> dict[str, np.ndarray]:
        """A batch of rows to sample from: no data, and the classes in turn where they matter."""
        return _sample_requests(self.train_data, self.num_classes, num_samples)


def _sample_requests(
    dataset: data.DataSet, num_classes: int | None, num_samples: int
) -> dict[str, np.ndarray]:
    dtype = np.uint8 if dataset.num_levels else np.float32
    requests = {"x": np.zeros((num_samples, *dataset.event_shape), dtype)}
    if num_classes is not None:
        requests["label"] = np.arange(num_samples, dtype=np.int32) % num_classes
    return requests


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The ``data`` section.

    Attributes:
        name: See :func:`genjax.data.load`.
        batch_size: Examples a step, over all devices.
        data_dir: Where TFDS sets are prepared; None for ``$TFDS_DATA_DIR`` or the TFDS default.
        train_split: Split to train on.
        test_split: Split to evaluate on.
        memory_limit_mib: Larger sets are streamed.
        num_workers: Processes that decode streamed sets.
    """

    name: str
    batch_size: int
    data_dir: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    memory_limit_mib: int = 2048
    num_workers: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The ``train`` section.

    Attributes:
        num_steps: Steps in all.
        seed: Seed of parameters, noise and the order of the data.
        log_every: Steps between lines in ``metrics.jsonl``.
        eval_every: Steps between evaluations; 0 for never.
        sample_every: Steps between sample pictures; 0 for never.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: Latest checkpoints to keep, besides the best.
        best_metric: Metric whose lowest value marks the best checkpoint.
    """

    num_steps: int
    seed: int = 0
    log_every: int = 100
    eval_every: int = 1000
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3
    best_metric: str = "eval/bits_per_dim"

    @property
    def periods(self) -> Periods:
        """The periods of the loop."""
        return Periods(self.log_every, self.eval_every, self.sample_every, self.checkpoint_every)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """The ``eval`` section.

    Attributes:
        batch_size: Examples at a time, over all devices.
        num_times: Stratified times for each example.
        seed: Seed of times and noise.
    """

    batch_size: int
    num_times: int = 1
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """The ``sample`` section.

    Attributes:
        num_samples: Samples in all.
        num_steps: Network calls a sample.
        batch_size: Samples at a time; all at once if None.
        seed: Seed of the draws.
    """

    num_samples: int
    num_steps: int = 1000
    batch_size: int | None = None
    seed: int = 0


def build(config: ml_collections.ConfigDict, *, num_devices: int | None = None) -> Experiment:
    """Builds an experiment, checking all that can be checked before compilation.

    Args:
        config: What an experiment file's ``get_config()`` returns, overrides applied.
        num_devices: Devices the batches are spread over; all of this run's if None.

    Returns:
        The experiment.

    Raises:
        ConfigError: If the config cannot be run.
        MissingDataError: If its data set is not prepared.
    """
    sections = as_dict(config)
    valid = ["data", "eval", "family", "model", "optimizer", "sample", "train"]
    unknown = sorted(set(sections) - set(valid))
    if unknown:
        raise ConfigError(f"unknown config section {unknown[0]!r}{_nearest(unknown[0], valid)}")
    for section in valid:
        if section not in sections:
            raise ConfigError(f"the config has no section {section!r}")

    data_settings = _call(DataSettings, sections["data"], "data")
    train = _call(TrainSettings, sections["train"], "train")
    evaluation = _call(EvalSettings, sections["eval"], "eval")
    sampling = _call(SampleSettings, sections["sample"], "sample")
    _check_sizes(data_settings, train, evaluation, sampling, num_devices or jax.device_count())

    optimizer = _build(OPTIMIZERS, sections["optimizer"], "optimizer")
    model = _build(NETS, sections["model"], "model")

    def split(name: str) -> data.DataSet:
        try:
            return data.load(
                data_settings.name,
                name,
                data_dir=data_settings.data_dir,
                memory_limit_mib=data_settings.memory_limit_mib,
            )
        except data.MissingDataError:
            raise
        except ValueError as error:
            raise ConfigError(f"data: {error}") from error

    train_data, test_data = split(data_settings.train_split), split(data_settings.test_split)
    for key, dataset in [("train_split", train_data), ("test_split", test_data)]:
        if len(dataset.source) < 2:
            raise ConfigError(f"data.{key} has {len(dataset.source)} examples, too few")
    _check_fit(model, train_data)

    family = _build(
        FAMILIES,
        sections["family"],
        "family",
        model=model,
        optimizer=optimizer,
        train_data=train_data,
        evaluation=evaluation,
        sampling=sampling,
    )
    try:
        # Traces the model on shapes alone, so that what does not fit is found here.
        state_shapes = jax.eval_shape(
            family.init,
            jax.random.key(0),
            _sample_requests(train_data, model.num_classes, 1),
        )
    except ValueError as error:
        raise ConfigError(f"model or schedule: {error}") from error
    return Experiment(
        family=family,
        state_shapes=state_shapes,
        train_data=train_data,
        test_data=test_data,
        train=train,
        eval=evaluation,
        sample=sampling,
        data=data_settings,
        num_classes=model.num_classes,
    )


def _build_vdm(
    *,
    model: Any,
    optimizer: Any,
    train_data: data.DataSet,
    evaluation: EvalSettings,
    sampling: SampleSettings,
    schedule: Mapping[str, Any],
    **kwargs: Any,
) -> Family:
    return _call(
        vdm,
        kwargs,
        "family",
        score_net=model,
        schedule=_build(SCHEDULES, schedule, "family.schedule"),
        optimizer=optimizer,
        event_shape=train_data.event_shape,
        num_levels=train_data.num_levels,
        eval_num_times=evaluation.num_times,
        sample_num_steps=sampling.num_steps,
        # A picture of points takes many of them, one of images a row each.
        num_trajectories=2000 if len(train_data.event_shape) == 1 else 8,
    )


FAMILIES: Mapping[str, Callable[..., Family]] = {
    "vdm": _build_vdm,
}


def as_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The config as plain data, tuples as they are."""
    return {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in config.items()}


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Dotted names of the keys whose values differ between two configs read from JSON."""
    names = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += [f"{key}.{inner}" for inner in changed_keys(a, b)]
        elif a != b or (key in old) != (key in new):
            names.append(key)
    return names


def unknown_key(config: ml_collections.ConfigDict, path: str) -> str | None:
    """Says where a dotted ``path`` leaves the keys of a config, or None if it leads to one."""
    node: Any = config
    walked: list[str] = []
    for part in path.split("."):
        walked.append(part)
        keys = sorted(node) if isinstance(node, ml_collections.ConfigDict) else []
        if part not in keys:
            return f"unknown config key {'.'.join(walked)!r}{_nearest(part, keys)}"
        node = node[part]
    return None


def _nearest(name: str, valid: typing.Iterable[str]) -> str:
    valid = sorted(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{guess} valid: {', '.join(valid)}"


def _build(
    table: Mapping[str, Callable[..., Any]], section: Mapping[str, Any], where: str, **given: Any
) -> Any:
    kwargs = dict(section)
    name = kwargs.pop("name", None)
    if name is None:
        raise ConfigError(f"{where} has no name; valid: {', '.join(sorted(table))}")
    if name not in table:
        raise ConfigError(f"unknown {where}.name {name!r}{_nearest(str(name), table)}")
    return _call(table[name], kwargs, where, **given)


def _call(function: Callable[..., Any], kwargs: Mapping[str, Any], where: str, **given: Any) -> Any:
    """Calls with checked keyword arguments; errors name the config key."""
    parameters = dict(inspect.signature(function).parameters)
    if isinstance(function, type) and issubclass(function, nn.Module):
        del parameters["parent"], parameters["name"]  # Linen's own
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD and n not in given]
    hints = typing.get_type_hints(function)
    for name, value in kwargs.items():
        if name not in names:
            if open_ended:
                continue
            raise ConfigError(f"unknown config key '{where}.{name}'{_nearest(name, names)}")
        hint = hints.get(name, Any)
        if not is_bearable(value, hint, conf=BeartypeConf(is_pep484_tower=True)):
            expected = getattr(hint, "__name__", None) if isinstance(hint, type) else hint
            raise ConfigError(
                f"{where}.{name} must be {str(expected).replace('typing.', '')}, got {value!r} "
                f"({type(value).__name__})"
            )
    missing = [n for n in names if parameters[n].default is inspect.Parameter.empty]
    missing = [n for n in missing if n not in kwargs]
    if missing:
        raise ConfigError(f"the config has no {where}.{missing[0]}, which has no default")
    try:
        return function(**kwargs, **given)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_sizes(
    data_settings: DataSettings,
    train: TrainSettings,
    evaluation: EvalSettings,
    sampling: SampleSettings,
    num_devices: int,
) -> None:
    for name, size in [
        ("data.batch_size", data_settings.batch_size),
        ("eval.batch_size", evaluation.batch_size),
    ]:
        if size < 1 or size % num_devices:
            raise ConfigError(
                f"{name} must be a positive multiple of the {num_devices} devices, got {size}"
            )
    for name, value, least in [
        ("train.num_steps", train.num_steps, 1),
        ("train.log_every", train.log_every, 1),
        ("train.eval_every", train.eval_every, 0),
        ("train.sample_every", train.sample_every, 0),
        ("train.checkpoint_every", train.checkpoint_every, 1),
        ("train.keep_checkpoints", train.keep_checkpoints, 1),
        ("sample.num_samples", sampling.num_samples, 1),
        ("sample.batch_size", 1 if sampling.batch_size is None else sampling.batch_size, 1),
        ("sample.num_steps", sampling.num_steps, 1),
        ("eval.num_times", evaluation.num_times, 1),
        ("data.num_workers", data_settings.num_workers, 0),
    ]:
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")

    for name, seed in [
        ("train.seed", train.seed),
        ("eval.seed", evaluation.seed),
        ("sample.seed", sampling.seed),
    ]:
        if not 0 <= seed < 2**32:
            raise ConfigError(f"{name} must be in [0, 2**32), got {seed}")


def _check_fit(model: Any, train_data: data.DataSet) -> None:
    """Whether the model takes such examples; found on shapes alone, before any compilation."""
    if len(train_data.event_shape) != model.event_rank:
        kinds = {1: "points [D]", 3: "images [H, W, C]"}
        raise ConfigError(
            f"the model {type(model).__name__} takes {kinds[model.event_rank]}, but an example of "
            f"{train_data.name} has shape {train_data.event_shape}"
        )
    if model.num_classes is None:
        return
    if train_data.num_classes is None:
        raise ConfigError(
            f"model.num_classes is {model.num_classes}, but {train_data.name} has no labels; set "
            "it to None"
        )
    if model.num_classes != train_data.num_classes:
        raise ConfigError(
            f"model.num_classes is {model.num_classes}, but {train_data.name} has "
            f"{train_data.num_classes} classes"
        )
