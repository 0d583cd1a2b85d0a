"""From the ``data`` section to the streams of a run."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from genjax import data
from genjax.config.arguments import arguments, call, check
from genjax.config.defaults import completed_transforms
from genjax.config.errors import ConfigError, first_line, shown
from genjax.config.tables import TRANSFORMS, build_named, look_up_function
from genjax.training.experiment import DataSettings, Stream


class PlannedStream(NamedTuple):
    """A stream before its rows are read.

    Attributes:
        settings: Its section.
        transforms: What is done to ``x``.
    """

    settings: DataSettings
    transforms: Sequence[data.Transform]


def plan_streams(settings: DataSettings) -> dict[str, PlannedStream]:
    """The streams that a section describes, checked as far as no rows are needed.

    Args:
        settings: The section ``data``: the first stream, and what others say differs from it.

    Returns:
        The streams by the places of their sections.

    Raises:
        ConfigError: If a section is wrong.
    """
    own = {name: value for name, value in vars(settings).items() if name != "streams"}
    sections = {"data": own}
    for name, section in (settings.streams or {}).items():
        where = f"data.streams.{name}"
        if not re.fullmatch(r"[\w-]+", name):  # features are called stream/x
            raise ConfigError(f"{where!r}: the name of a stream must be of letters and digits")
        if not isinstance(section, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {shown(section)}")
        # Options are those of a function, and of another function they are others.
        same = section.get("name", own["name"]) == own["name"]
        sections[where] = {**own, **({} if same else {"options": None}), **section}
    return {where: _planned(section, where) for where, section in sections.items()}


def _planned(section: Mapping[str, Any], where: str) -> PlannedStream:
    transforms = completed_transforms(section["transforms"], f"{where}.transforms")
    settings = call(DataSettings, {**section, "transforms": transforms}, where)
    if settings.name is None:
        raise ConfigError(
            f"{where} has no name: expected a data set, such as digits, mnist or images"
        )
    for key in ("train_split", "test_split"):
        try:
            data.split_name(getattr(settings, key))
        except ValueError as error:
            raise ConfigError(f"{where}.{key}: {error}") from error
    options = settings.options or {}
    if _is_function(settings.name):
        load = look_up_function(data.LOADERS, settings.name, where)
        given = ("split", "data_dir", "memory_limit_mib")
        valid = {name: a for name, a in arguments(load).items() if name not in given}
        check(options, valid, f"{where}.options")
    elif options:
        raise ConfigError(
            f"{where}.options are for {', '.join(sorted(data.LOADERS))} and functions named by "
            f"an import path, not {settings.name!r}"
        )
    return PlannedStream(settings, [_build_transform(t, where) for t in transforms])


def _is_function(name: str) -> bool:
    """Whether a data set is what a function with options of its own loads."""
    return ":" in name or name in data.LOADERS


def build_streams(planned: Mapping[str, PlannedStream]) -> dict[str, Stream]:
    """Reads the rows of planned streams.

    Args:
        planned: See :func:`plan_streams`.

    Returns:
        The streams by name, the first of them ``""``.

    Raises:
        ConfigError: If the data does not fit what is said of it.
        MissingDataError: If it is not there.
    """
    return {
        where.removeprefix("data").removeprefix(".streams."): _build_stream(stream, where)
        for where, stream in planned.items()
    }


def _build_stream(stream: PlannedStream, where: str) -> Stream:
    settings, transforms = stream

    def split(key: str) -> data.DataSet:
        loaded = _load(settings, getattr(settings, key), where)
        try:
            loaded = data.of_classes(loaded, settings.classes)
        except ValueError as error:
            raise ConfigError(f"{where}.classes: {error}") from error
        try:
            made = data.prepared(loaded, transforms)
        except Exception as error:  # noqa: BLE001 - another package's may raise anything
            raise ConfigError(f"{where}.transforms: {first_line(error)}") from error
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
    _warn_of_classes(where, train)
    if settings.batch_size > len(train.source):
        logging.warning(
            "%s.batch_size is %d, but %s has %d rows to train on: rows repeat in a batch",
            where, settings.batch_size, train.name, len(train.source),
        )  # fmt: skip
    return Stream(train=train, test=test, batch_size=settings.batch_size, transforms=transforms)


def _warn_of_classes(where: str, train: data.DataSet) -> None:
    """Says if most class ids of a split do not occur."""
    labels = data.column(train.source, "label") if "label" in train.spec else None
    if labels is None:
        return
    occur = len(np.unique(labels))
    if 2 * occur < (train.num_classes or 0):
        logging.warning(
            "%s: the labels of %s go up to %d, but only %d classes occur: number them 0, 1, ...",
            where, train.name, (train.num_classes or 0) - 1, occur,
        )  # fmt: skip


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
    assert settings.name is not None
    name, options = settings.name, settings.options or {}
    shared: dict[str, Any] = dict(
        data_dir=settings.data_dir, memory_limit_mib=settings.memory_limit_mib
    )
    try:
        if ":" in name:
            load = look_up_function({}, name, where)
            given = {"split": data.split_name(split), **shared}
            taken = {key: value for key, value in given.items() if key in arguments(load)}
            loaded = load(**options, **taken)
            if not isinstance(loaded, data.DataSet):
                raise ConfigError(
                    f"{where}.name {name!r} must return a genjax.data.DataSet, got "
                    f"{type(loaded).__name__}"
                )
            return data.sliced(loaded, split)
        return data.load(name, split, **shared, **options)
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
    if not isinstance(built, data.Preparation | data.Augmentation | data.Pairing):
        raise ConfigError(
            f"{where}: {section.get('name')!r} has neither prepare nor augment nor pair, one of "
            "which a transform must have"
        )
    return built
