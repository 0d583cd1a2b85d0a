"""From a config to an experiment, checking all that can be checked before compilation."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from absl import logging

from genjax import data, families, nets
from genjax.config.arguments import arguments, call, check, refusing
from genjax.config.defaults import SETTINGS, as_json, at, complete
from genjax.config.errors import ConfigError
from genjax.config.features import FEATURES
from genjax.config.frozen import build_frozen, build_network
from genjax.config.recipes import GIVEN, Recipe, Slot
from genjax.config.tables import (
    OPTIMIZERS,
    TRANSFORMS,
    build_named,
    look_up,
    look_up_family,
    look_up_logger,
)
from genjax.families.base import Acts, Family
from genjax.training.experiment import (
    DataSettings,
    EvalSettings,
    Experiment,
    SampleSettings,
    Stream,
    check_batch_size,
    spec_of,
)
from genjax.training.feature_statistics import read_statistics
from genjax.training.optimizers import Scheduled
from genjax.training.quality import Reference, SampleQuality

Mode = Literal["train", "eval", "sample", "export", "plan"]
"""What an experiment is built for."""


def build(config: Any, *, num_devices: int | None = None, mode: Mode = "train") -> Experiment:
    """Builds an experiment.

    Args:
        config: What an experiment file's ``get_config()`` returns, overrides applied; a
            ``ConfigDict`` or mapping of sections, complete or not.
        num_devices: Devices the batches are spread over; all of this run's if None.
        mode: What it is built for: what is needed for evaluation only is not asked for otherwise.

    Returns:
        The experiment.

    Raises:
        ConfigError: If the config cannot be run.
        MissingDataError: If its data set is not prepared.
    """
    sections = complete(config)
    settings: dict[str, Any] = {
        name: call(SETTINGS[name], sections[name], name) for name in SETTINGS
    }
    loggers = {}
    if mode in ("train", "eval", "sample"):
        loggers = {name: look_up_logger(name) for name in settings["train"].loggers}
    num_devices = num_devices or jax.device_count()
    recipe = look_up_family(sections["family"]["name"])
    # What needs no rows is checked before a set is decoded, which may take minutes.
    networks, frozen = _before_data(recipe, sections)
    streams = _build_streams(settings["data"], num_devices)
    rates: dict[str, Callable[[int], float]] = {}
    made = _assemble(recipe, sections, streams, settings, networks, frozen, rates)
    family = made.family

    def resampled(sample: SampleSettings) -> Family:
        other = {**settings, "sample": sample}
        return _assemble(recipe, sections, streams, other, networks, frozen, {}).family

    parts: dict[str, Any] = dict(
        family=family,
        streams=streams,
        frozen=made.loaders,
        networks=made.networks,
        resampled=resampled,
        learning_rates=rates,
        loggers=loggers,
        config=as_json(sections),
        **settings,
    )
    if settings["eval"].metrics:
        # Features may be those of a run of minutes, or a file to fetch: made where they are used.
        parts["quality"] = functools.cache(lambda: _build_quality(experiment))
    experiment: Experiment = refusing("", Experiment, **parts)
    try:
        experiment.state_shapes  # noqa: B018 - what does not fit is found on shapes alone
    except ValueError as error:
        raise ConfigError(f"model or schedule: {error}") from error
    except Exception as error:  # noqa: BLE001 - networks of other packages may raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"model: the networks cannot be initialised with this data: {type(error).__name__}: "
            f"{reason}"
        ) from error
    refusing("", experiment.check_devices, num_devices=num_devices)
    if mode == "eval" or (mode == "train" and settings["train"].eval_every > 0):
        refusing("", experiment.check_evaluation)
    if mode == "train":
        refusing("", experiment.check_best_metric)
    return experiment


def _before_data(
    recipe: Recipe, sections: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """Sections of the networks to train and of the frozen ones, by argument; keys are checked."""
    networks, frozen = {}, {}
    for (where, slot), argument in zip(
        recipe.model_sections().items(), recipe.networks, strict=True
    ):
        section = at(sections, where)
        if "frozen" in section:
            frozen[argument] = section["frozen"]
            continue
        made = look_up(slot.table, section.get("name"), where)
        given = {"event_shape", *slot.given}
        valid = {name: a for name, a in arguments(made).items() if name not in given}
        check({n: v for n, v in section.items() if n != "name"}, valid, where)
        networks[argument] = section
    return networks, frozen


def _build_streams(settings: DataSettings, num_devices: int) -> dict[str, Stream]:
    """The first stream, and what the others say differs from it."""
    own = {name: value for name, value in vars(settings).items() if name != "streams"}
    sections = {"": own}
    for name, section in (settings.streams or {}).items():
        if not isinstance(section, Mapping):
            raise ConfigError(f"data.streams.{name} must be a mapping, got {section!r}")
        # Options are those of a function, and of another function they are others.
        same = section.get("name", own["name"]) == own["name"]
        sections[name] = {**own, **({} if same else {"options": None}), **section}
    built = {}
    for name, section in sections.items():
        where = f"data.streams.{name}" if name else "data"
        stream = call(DataSettings, section, where)
        refusing("", check_batch_size, where=where, size=stream.batch_size, num_devices=num_devices)
        built[name] = _build_stream(stream, where)
    return built


def _build_stream(settings: DataSettings, where: str) -> Stream:
    transforms = [_build_transform(section, where) for section in settings.transforms]

    def split(key: str) -> data.DataSet:
        loaded = _load(settings, getattr(settings, key), where)
        try:
            made = data.prepared(loaded, transforms)
        except ValueError as error:
            raise ConfigError(f"{where}.transforms: {error}") from error
        try:
            data.check_rows(made)
        except ValueError as error:
            raise ConfigError(f"{where}.{key}: {error}") from error
        return made

    train, test = split("train_split"), split("test_split")
    if data.looks_like_levels(train):
        logging.warning(
            "%s: the images of %s look like 8-bit grey levels in floating point: likelihoods are "
            "then those of real numbers; save them as uint8 if they are grey levels",
            where, train.name,
        )  # fmt: skip
    for key, dataset in [("train_split", train), ("test_split", test)]:
        if len(dataset.source) < 2:
            raise ConfigError(f"{where}.{key} has {len(dataset.source)} examples, too few")
        expected = settings.event_shape or train.event_shape
        if tuple(expected) != dataset.event_shape:
            raise ConfigError(
                f"{where}.{key}: expected examples of shape {tuple(expected)}, got "
                f"{dataset.event_shape}; is it another data set?"
            )
        _check_kinds(where, train, dataset)
        if (dataset.num_classes or 0) > (train.num_classes or 0):
            raise ConfigError(
                f"{where}.{key} has labels up to {(dataset.num_classes or 0) - 1}, which "
                f"{where}.train_split has not"
            )
    return Stream(train=train, test=test, batch_size=settings.batch_size, transforms=transforms)


def _check_kinds(where: str, train: data.DataSet, test: data.DataSet) -> None:
    """Whether both splits hold the same kinds of values."""

    def kind(feature: data.Feature | None) -> str:
        if feature is None:
            return "absent"
        levels = f" of {feature.num_levels} grey levels" if feature.num_levels else ""
        return f"{np.dtype(feature.dtype)}{list(feature.shape)}{levels}"

    for name in [*train.spec, *(set(test.spec) - set(train.spec))]:
        ours, theirs = kind(train.spec.get(name)), kind(test.spec.get(name))
        if ours != theirs:
            raise ConfigError(
                f"{where}.test_split: {name} is {theirs}, but {ours} in {where}.train_split; save "
                "both splits alike"
            )


def _load(settings: DataSettings, split: str, where: str) -> data.DataSet:
    """One split; of an import path, what its function returns for it."""
    if settings.name is None:
        raise ConfigError(
            f"{where} has no name: expected a data set, such as digits, mnist or images"
        )
    name, options = settings.name, settings.options or {}
    shared: dict[str, Any] = dict(
        data_dir=settings.data_dir, memory_limit_mib=settings.memory_limit_mib
    )
    try:
        if ":" in name or name in data.LOADERS:
            load = look_up(data.LOADERS, name, where)
            part = data.split_name(split)
            loaded = call(load, options, f"{where}.options", split=part, **shared)
            if not isinstance(loaded, data.DataSet):
                raise ConfigError(
                    f"{where}.name {name!r} must return a genjax.data.DataSet, got "
                    f"{type(loaded).__name__}"
                )
            return data.sliced(loaded, split)
        if options:
            raise ConfigError(
                f"{where}.options are for {', '.join(sorted(data.LOADERS))} and functions named by "
                f"an import path, not {name!r}"
            )
        return data.load(name, split, **shared)
    except (data.MissingDataError, data.DamagedDataError, ConfigError):
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:
        if ":" not in name:
            raise
        # A function of another package may raise anything.
        raise ConfigError(
            f"{where}.name {name!r} failed: {type(error).__name__}: {error}"
        ) from error


def _build_transform(section: Mapping[str, Any], where: str) -> data.Transform:
    where = f"{where}.transforms"
    built = build_named(TRANSFORMS, section, where)
    if not isinstance(built, data.Preparation | data.Augmentation):
        raise ConfigError(
            f"{where}: {section.get('name')!r} has neither prepare nor augment, one of which a "
            "transform must have"
        )
    return built


class _Assembled(NamedTuple):
    """A family, its networks by their names in the state, and what loads the frozen ones."""

    family: Family
    networks: Mapping[str, Any]
    loaders: Mapping[str, Callable[[], Any]]


def _assemble(
    recipe: Recipe,
    sections: Mapping[str, Any],
    streams: Mapping[str, Stream],
    settings: Mapping[str, Any],
    networks: Mapping[str, Mapping[str, Any]],
    frozen: Mapping[str, Mapping[str, Any]],
    rates: dict[str, Callable[[int], float]],
) -> _Assembled:
    """Makes the family from its sections.

    Learning rates of its optimisers, as far as they are known, are put into ``rates``.
    """
    dataset = streams[""].train
    kwargs: dict[str, Any] = {}
    loaders: dict[str, Callable[[], Any]] = {}
    for (where, slot), name in zip(recipe.model_sections().items(), recipe.networks, strict=True):
        if name in frozen:
            found = build_frozen(frozen[name], f"{where}.frozen", dataset.event_shape)
            kwargs[name] = found.module()
            loaders[slot.key or name] = found.for_state
        else:
            if slot.classes_of_data and slot.classes in networks[name]:
                _fill_in_classes(networks[name], slot.classes, dataset, where)
            kwargs[name] = build_network(slot, networks[name], where, dataset.event_shape)
        _check_fit(kwargs[name], dataset, where, slot)
    for where, name in recipe.optimizer_sections().items():
        kwargs[name] = _optimizer_factory(sections, where, rates)
    section = {k: v for k, v in sections["family"].items() if k != "name"}
    for name, table in recipe.parts.items():
        part = section.pop(name, None)
        if part is None and recipe.arguments()[name].default is None:
            continue
        where = f"family.{name}"
        if part is not None and not isinstance(part, Mapping):
            raise ConfigError(f"{where} must have a name, got {part!r}")
        kwargs[name] = build_named(table, part or {}, where)
    check(section, recipe.keys(), "family")
    own = recipe.arguments()
    for name, value in section.items():
        # Such as a loss: what may be more than a string may be an import path.
        plain = name not in own or own[name].hint in (str, str | None)
        if isinstance(value, str) and ":" in value and not plain:
            section[name] = look_up({}, value, f"family.{name}")
    for name, group in recipe.groups.items():
        fields = {f for f in arguments(group) if f not in own and f not in recipe.fixes}
        taken = {f: section.pop(f) for f in sorted(fields & set(section))}
        kwargs[name] = refusing("family", group, **taken)
    given = _given(streams, settings)
    kwargs |= {name: given[name] for name in GIVEN if name in own}
    family = refusing("family", recipe.make, **section, **kwargs)
    scale = _moments(streams, settings["data"], [kwargs[name] for name in recipe.networks])
    if scale is not None:
        alike = tuple(
            name
            for name, feature in spec_of(streams).items()
            if name.split("/")[-1] == "x"
            and feature.num_levels is None
            and feature.shape == dataset.event_shape
        )
        family = families.standardized(family, scale.mean, scale.std, names=alike)
    made = {slot.key or name: kwargs[name] for name, slot in recipe.networks.items()}
    made |= {name: kwargs[name] for name in recipe.parts if name in kwargs}
    return _Assembled(family, made, loaders)


def _fill_in_classes(section: Any, key: str, dataset: data.DataSet, where: str) -> None:
    """Writes the data's number of classes down in the config, where it is left open."""
    if section[key] is not None:
        return
    if dataset.num_classes is None:
        raise ConfigError(f"{where}: {dataset.name} has no labels, which a classifier needs")
    section[key] = dataset.num_classes


def _moments(
    streams: Mapping[str, Stream], settings: DataSettings, networks: Sequence[Any]
) -> data.Moments | None:
    """Moments to standardise the data by, if that is asked for or needed."""
    dataset, asked = streams[""].train, settings.standardize
    if asked is False or (asked is None and dataset.num_levels is not None):
        return None
    # A flow that begins with a logit is of data in an interval, which says its scale.
    bounded = any(getattr(net, "domain", None) is not None for net in networks)
    if bounded and asked:
        raise ConfigError(
            "data.standardize does not fit a flow that begins with a logit of data in an interval; "
            "leave it out, or take a flow without"
        )
    if bounded:
        return None
    try:
        found = data.moments(dataset)
    except ValueError as error:
        raise ConfigError(f"data.standardize: {error}") from error
    return found if asked or len(found.far_from_standard()) else None


def _given(streams: Mapping[str, Stream], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What families are told besides their section: see :data:`~genjax.config.recipes.GIVEN`."""
    dataset = streams[""].train
    evaluation: EvalSettings = settings["eval"]
    sampling: SampleSettings = settings["sample"]
    return {
        "batch_size": streams[""].batch_size,
        "eval_num_draws": evaluation.num_times,
        "eval_num_times": evaluation.num_times,
        "event_shape": dataset.event_shape,
        "num_levels": dataset.num_levels,
        "sample_num_steps": sampling.num_steps,
        "spec": spec_of(streams),
    }


def _optimizer_factory(
    sections: Mapping[str, Any], where: str, rates: dict[str, Callable[[int], float]]
) -> Callable[[Acts], Any]:
    """What makes an optimiser when the family says how often it acts; arguments are checked now."""
    section = at(sections, where)
    told = "acts" in arguments(look_up(OPTIMIZERS, section.get("name"), where))
    make = functools.partial(build_named, OPTIMIZERS, section, where)
    make(acts=Acts())  # refuses what does not fit or is out of range, with its key

    def factory(acts: Acts) -> Any:
        if not told and acts.regularize_every > 1:
            raise ConfigError(
                f"{where}.name {section['name']!r} is not corrected for steps on penalties of "
                "their own (family.penalty_every above 1): it has no argument 'acts'"
            )
        made = make(acts=acts)
        if isinstance(made, Scheduled):  # another package's may not say
            rates[where.partition(".")[2]] = made.learning_rate
        return made

    return factory


def _check_fit(net: Any, dataset: data.DataSet, where: str, slot: Slot) -> None:
    """Whether a network takes such examples, as far as it says what it takes."""
    rank = getattr(net, "event_rank", None)
    if rank is not None and len(dataset.event_shape) != rank:
        kinds = {1: "points [D]", 3: "images [H, W, C]"}
        called = type(net).__name__ if not isinstance(net, nets.Frozen) else "the frozen network"
        raise ConfigError(
            f"{where}: {called} takes {kinds.get(rank, f'{rank} axes')}, but an example of "
            f"{dataset.name} has shape {dataset.event_shape}"
        )
    classes, key = getattr(net, slot.classes, None), f"{where}.{slot.classes}"
    if classes is not None and dataset.num_classes is None:
        raise ConfigError(f"{key} is {classes}, but {dataset.name} has no labels; set it to None")
    if classes is not None and classes != dataset.num_classes:
        raise ConfigError(
            f"{key} is {classes}, but {dataset.name} has {dataset.num_classes} classes"
        )
    domain = getattr(net, "domain", None)
    if domain is not None and isinstance(dataset.source, data.ArraySource):
        x = dataset.source.arrays["x"]
        low, high = (0.0, 1.0) if dataset.num_levels else (float(x.min()), float(x.max()))
        if low < domain[0] or high > domain[1]:
            raise ConfigError(
                f"{where}: this flow begins with a logit of data in {list(domain)}, but "
                f"{dataset.name} has values from {low:.4g} to {high:.4g}; scale them, or take a "
                "flow without"
            )


def _labels_of(dataset: data.DataSet, count: int) -> np.ndarray | None:
    """Class ids of the first rows of a set that has any, where they are at hand."""
    if "label" not in dataset.spec:
        return None
    labels = data.column(dataset.source, "label")
    return None if labels is None else labels[:count]


def _build_quality(experiment: Experiment) -> SampleQuality:
    evaluation = experiment.eval
    if "label_accuracy" in evaluation.metrics and "label" not in experiment.family.reads:
        raise ConfigError("eval.metrics: 'label_accuracy' needs a conditional model")
    training = evaluation.reference == "train"
    reference = experiment.train_data if training else experiment.test_data
    features = None
    if evaluation.features is not None:
        features = build_named(FEATURES, evaluation.features, "eval.features", dataset=reference)
    statistics = None
    if evaluation.statistics is not None:
        try:
            statistics = read_statistics(evaluation.statistics)
        except ValueError as error:
            raise ConfigError(f"eval.statistics: {error}") from error
    count = min(evaluation.num_reference or len(reference.source), len(reference.source))
    split = experiment.data.train_split if training else experiment.data.test_split
    return refusing(
        "eval",
        SampleQuality,
        metrics=evaluation.metrics,
        num_samples=evaluation.num_samples,
        reference=Reference(
            lambda start, stop: reference.source.rows(np.arange(start, stop))["x"],
            count,
            reference.event_shape,
            f"{count} rows of {reference.name} {split}",
            reference.mixture,
            _labels_of(reference, count),
        ),
        features=features,
        statistics=statistics,
    )
