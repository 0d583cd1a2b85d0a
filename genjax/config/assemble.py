"""From a config to an experiment, checking all that can be checked before compilation."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import numpy as np
from absl import logging

from genjax import data
from genjax.config.arguments import call, check, refusing
from genjax.config.defaults import SETTINGS, as_json, complete, every_section
from genjax.config.errors import ConfigError, first_line
from genjax.config.features import FEATURES
from genjax.config.first_stage import (
    STAGES,
    complete_first_stage,
)
from genjax.config.guidance import SAMPLING
from genjax.config.making import Basis, assemble, before_data
from genjax.config.recipes import Recipe
from genjax.config.streams import build_streams, plan_streams
from genjax.config.tables import (
    EDITS,
    build_named,
    look_up_family,
    look_up_logger,
)
from genjax.families.base import Family
from genjax.training.experiment import (
    EvalSettings,
    Experiment,
    SampleSettings,
    TrainSettings,
    check_batch_size,
)
from genjax.training.feature_statistics import read_statistics
from genjax.training.quality import Features, Reference, SampleQuality

Mode = Literal["train", "eval", "sample", "edit", "export", "plan"]
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
    for name, stage in STAGES.items():
        if sections["data"][name] is not None:
            # Now, when it is said for certain which run it is.
            found = complete_first_stage(stage, sections["data"][name], sections["data"])
            sections["data"][name] = found
    recipe = look_up_family(sections["family"]["name"])
    # What needs no rows is checked before a set is decoded, which may take minutes.
    for where, section, valid in every_section(sections, recipe):
        check(section, valid, where)
    settings: dict[str, Any] = {
        name: call(SETTINGS[name], sections[name], name) for name in SETTINGS
    }
    loggers = {}
    if mode in ("train", "eval", "sample", "edit"):
        loggers = {name: look_up_logger(name) for name in settings["train"].loggers}
    _check_steps(recipe, sections, sections["sample"])
    planned = plan_streams(settings["data"])
    ready = before_data(recipe, sections)._replace(draws=_draws(mode, settings))
    num_devices = num_devices or _count_devices()
    for where, stream in planned.items():
        size = stream.settings.batch_size
        refusing("", check_batch_size, where=where, size=size, num_devices=num_devices)
    streams = build_streams(planned)
    rates: dict[str, Callable[[int], float]] = {}
    # One pass over the rows, however often a family is made of them.
    measured = functools.cache(lambda: data.moments(streams[""].train))
    # Plans are of shapes, for which no row of a large set need be read.
    deviation = functools.cache(
        lambda: 1.0 if mode == "plan" else data.deviation(streams[""].train)
    )
    basis = Basis(
        streams=streams, settings=settings, measured=measured, deviation=deviation, rates=rates
    )
    made = assemble(recipe, sections, basis, ready)

    def resampled(sample: SampleSettings, **values: Any) -> Family:
        given = {name: value for name, value in values.items() if value is not None}
        _check_steps(recipe, sections, given)
        other = {**settings, "sample": dataclasses.replace(sample, **given)}
        return assemble(
            recipe, sections, dataclasses.replace(basis, settings=other, rates={}), ready
        ).family

    parts: dict[str, Any] = dict(
        family=made.family,
        streams=streams,
        frozen=made.loaders,
        started=made.started,
        networks=made.networks,
        resampled=resampled,
        learning_rates=rates,
        loggers=loggers,
        config=as_json(sections),
        **settings,
    )
    if "edit" in sections:
        parts["edit"] = build_named(EDITS, sections["edit"], "edit")
    elif mode == "edit":
        raise ConfigError(
            "the config has no section 'edit': name an edit, such as --config.edit.name=vary; "
            f"valid: {', '.join(sorted(EDITS))}"
        )
    if settings["eval"].features is not None:
        parts["features"] = functools.cache(lambda: _build_features(experiment))
    if settings["eval"].metrics:
        # Features may be those of a run of minutes, or a file to fetch: made where they are used.
        parts["quality"] = functools.cache(lambda: _build_quality(experiment))
    experiment: Experiment = refusing("", Experiment, **parts)
    _check_shapes(experiment, sections, training=mode in ("train", "plan"))
    refusing("", experiment.check_devices, num_devices=num_devices)
    if mode == "eval" or (mode == "train" and settings["train"].eval_every > 0):
        refusing("", experiment.check_evaluation)
        size, rows = settings["eval"].batch_size, len(experiment.test_data.source)
        if size > max(rows, EvalSettings.batch_size):
            logging.warning(
                "eval.batch_size is %d, but %s has %d rows to test on: the rest of a batch is "
                "computed for nothing", size, experiment.test_data.name, rows,
            )  # fmt: skip
    if mode == "train":
        refusing("", experiment.check_best_metric)
    return experiment


def _check_steps(recipe: Recipe, sections: Mapping[str, Any], sampling: Mapping[str, Any]) -> None:
    """Refuses samplers and guidance of families that do not go from noise to data in steps."""
    for name in SAMPLING:
        if sampling.get(name) is not None and "sampling" not in recipe.arguments():
            raise ConfigError(
                f"sample.{name}: the family {sections['family']['name']!r} does not go from noise "
                "to data in steps; leave it out"
            )


def _draws(mode: Mode, settings: Mapping[str, Any]) -> bool:
    """Whether training or evaluation draws samples; what is for sampling says itself what lacks."""
    train: TrainSettings = settings["train"]
    measures = bool(settings["eval"].metrics)
    if mode == "train":
        return train.sample_every > 0 or (train.eval_every > 0 and measures)
    return mode == "eval" and measures


def _count_devices() -> int:
    try:
        return jax.device_count()
    except (RuntimeError, AssertionError) as error:  # the latter without the plugin asked for
        asked = os.environ.get("JAX_PLATFORMS")
        hint = f" (JAX_PLATFORMS is {asked!r}: unset it, or install jax for it)" if asked else ""
        raise ConfigError(f"jax finds no devices{hint}: {first_line(error)}") from error


def _check_shapes(experiment: Experiment, sections: Mapping[str, Any], *, training: bool) -> None:
    """Finds on shapes alone what does not fit: networks, and what is drawn anew in each step."""
    try:
        experiment.state_shapes  # noqa: B018 - traced where it is asked for
    except ValueError as error:
        raise ConfigError(f"model or schedule: {first_line(error)}") from error
    except Exception as error:  # noqa: BLE001 - networks of other packages may raise anything
        raise ConfigError(
            f"model: the networks cannot be initialised with this data: {first_line(error)}"
        ) from error
    if not training:
        return
    try:
        experiment.check_augment()
    except Exception as error:  # noqa: BLE001
        raise ConfigError(f"data.transforms: {first_line(error)}") from error
    names = [name for place in ("model", "family", "optimizer") for name in _paths(sections[place])]
    if not names:
        return
    # Parts of this package fit together, and tracing a step takes as long as its backward pass is
    # long. What others bring may give any shape, which else would be found while it is compiled.
    try:
        experiment.check_step()
    except Exception as error:  # noqa: BLE001
        raise ConfigError(
            f"model: a training step with {', '.join(sorted(set(names)))} cannot be traced: "
            f"{first_line(error)}"
        ) from error


def _paths(value: Any) -> list[str]:
    """Import paths in a section."""
    if isinstance(value, Mapping):
        return [path for inner in value.values() for path in _paths(inner)]
    return [value] if isinstance(value, str) and ":" in value else []


def _labels_of(dataset: data.DataSet, count: int) -> np.ndarray | None:
    """Class ids of the first rows of a set that has any, where they are at hand."""
    if "label" not in dataset.spec:
        return None
    labels = data.column(dataset.source, "label")
    return None if labels is None else labels[:count]


def _build_features(experiment: Experiment) -> Features:
    section = experiment.eval.features
    assert section is not None
    made: Features = build_named(FEATURES, section, "eval.features", dataset=experiment.train_data)
    return made


def _build_quality(experiment: Experiment) -> SampleQuality:
    evaluation = experiment.eval
    if "label_accuracy" in evaluation.metrics and not experiment.samples_have_labels:
        raise ConfigError(
            "eval.metrics: 'label_accuracy' needs a conditional model, or samples that are made "
            "from labelled rows"
        )
    training = evaluation.reference == "train"
    reference = experiment.train_data if training else experiment.test_data
    features = None if experiment.features is None else experiment.features()
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
            reference.num_levels,
        ),
        features=features,
        statistics=statistics,
    )
