"""From configs to objects. The only module that reads configs.

A section of a config is a ``name`` and keyword arguments of the function of that name in the table
below it. Defaults live in that function's signature, once; an argument it does not have, or of a
wrong type, is a :class:`ConfigError` before anything is compiled.
"""

import dataclasses
import difflib
import functools
import inspect
import json
import os
import re
import typing
import zlib
from collections.abc import Callable, Mapping, Sequence
from pickle import UnpicklingError
from typing import Any, Literal, cast
from zipfile import BadZipFile

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from beartype import BeartypeConf
from beartype.door import is_bearable
from etils import epath
from jax.sharding import Mesh

from genjax import bijectors, data, families, nets
from genjax.data import TrainBatches
from genjax.diffusion import schedules
from genjax.families.base import Family, TrainState, scale_levels
from genjax.training import optimizers
from genjax.training.loop import Periods
from genjax.training.quality import HIGHER_IS_BETTER, Features, Reference, SampleQuality

SCORE_NETS: Mapping[str, Callable[..., Any]] = {
    "score_mlp": nets.ScoreMLP,
    "score_resnet": nets.ScoreResNet,
}
GENERATORS: Mapping[str, Callable[..., Any]] = {
    "dcgan": nets.DCGANGenerator,
    "mlp": nets.MLPGenerator,
    "resnet": nets.ResNetGenerator,
}
CRITICS: Mapping[str, Callable[..., Any]] = {
    "dcgan": nets.DCGANCritic,
    "mlp": nets.MLPCritic,
    "resnet": nets.ResNetCritic,
}
CLASSIFIERS: Mapping[str, Callable[..., Any]] = {
    "conv_classifier": nets.ConvClassifier,
}
SCHEDULES: Mapping[str, Callable[..., Any]] = {
    "fixed_linear": schedules.FixedLinearSchedule,
    "learned_linear": schedules.LearnedLinearSchedule,
    "learned_monotone": schedules.LearnedMonotoneSchedule,
}
FLOWS: Mapping[str, Callable[..., Any]] = {
    "autoregressive_flow": bijectors.autoregressive_flow,
    "continuous_flow": bijectors.continuous_flow,
    "coupling_flow": bijectors.coupling_flow,
    "glow": bijectors.glow,
    "jet": bijectors.jet,
    "real_nvp": bijectors.real_nvp,
    "tarflow": bijectors.tarflow,
}
VECTOR_FLOWS = ("autoregressive_flow", "continuous_flow", "coupling_flow")
"""Flows of vectors; images are rows of a table to them."""
DEQUANTIZERS: Mapping[str, Callable[..., Any]] = {
    "uniform": bijectors.UniformDequantizer,
    "variational": bijectors.VariationalDequantizer,
}
OPTIMIZERS: Mapping[str, Callable[..., Any]] = {
    "adam": optimizers.adam,
    "adamax": optimizers.adamax,
    "adamw": optimizers.adamw,
    "rmsprop": optimizers.rmsprop,
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
        parallel: How the run is spread over devices.
        data: Settings of the batches.
        num_classes: Number of classes if the model is conditional on labels, else None.
        quality: Measures of samples that evaluation makes, if any.
    """

    family: Family
    state_shapes: TrainState
    train_data: data.DataSet
    test_data: data.DataSet
    train: "TrainSettings"
    eval: "EvalSettings"
    sample: "SampleSettings"
    parallel: "ParallelSettings"
    data: "DataSettings"
    num_classes: int | None
    quality: SampleQuality | None

    def sample_requests(self, num_samples: int) -> dict[str, np.ndarray]:
        """A batch of rows to sample from: no data, and the classes in turn where they matter."""
        return _sample_requests(self.train_data, self.num_classes, num_samples)

    def train_batches(self) -> TrainBatches:
        """This process's batches of training."""
        return TrainBatches(
            self.train_data.source,
            self.data.batch_size,
            seed=self.train.seed,
            batches_per_step=self.family.batches_per_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def on_devices(self) -> tuple[Family, Mesh]:
        """The family as the devices run it, and the mesh of all of them."""
        from genjax.training.mesh import make_mesh, per_device

        mesh = make_mesh(fsdp=self.parallel.fsdp)
        if self.parallel.strategy == "pmap":
            return per_device(self.family, mesh), mesh
        return self.family, mesh


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
        device_limit_mib: Sets in memory of at most this many MiB are also kept whole on each
            device, where the compiled step picks its rows; larger ones go there batch by batch.
        num_workers: Processes that decode streamed sets.
        event_shape: Shape of an example that the data must have; None for any.
    """

    name: str
    batch_size: int
    data_dir: str | None = None
    train_split: str = "train"
    test_split: str = "test"
    memory_limit_mib: int = 2048
    device_limit_mib: int = 1024
    num_workers: int = 0
    event_shape: Sequence[int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelSettings:
    """The ``parallel`` section.

    Attributes:
        strategy: ``"jit"``: one program over global arrays. ``"pmap"``: each device runs the step
            on its rows, and gradients, metrics and batch statistics are averaged over devices, as
            under ``jax.pmap``; noise then depends on the number of devices.
        fsdp: Devices that large arrays of the state are spread over; must divide their number. The
            batch is spread over all devices whatever it is.
        cpu_devices: Devices that a CPU is divided into, where no accelerator is found. Two are
            faster than one with convolutions at full resolution, slower with short steps.
        plan_devices: Devices that ``--mode=plan`` plans for: as many host devices are made up. 0
            for those that are there.
    """

    strategy: Literal["jit", "pmap"] = "jit"
    fsdp: int = 1
    cpu_devices: int = 1
    plan_devices: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The ``train`` section.

    Attributes:
        num_steps: Steps in all.
        seed: Seed of parameters, noise and the order of the data.
        steps_per_call: Most steps in one call of the compiled program, which loops over them; it is
            cut short where something is due. Saves the time between calls where steps are short.
            1 on CPUs for models with convolutions, which are slow in loops there.
        log_every: Steps between lines in ``metrics.jsonl``.
        eval_every: Steps between evaluations; 0 for never.
        sample_every: Steps between sample pictures; 0 for never.
        checkpoint_every: Steps between checkpoints.
        keep_checkpoints: Latest checkpoints to keep, besides the best.
        best_metric: Metric whose lowest value marks the best checkpoint.
    """

    num_steps: int
    seed: int = 0
    steps_per_call: int = 1
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
        batch_size: Examples at a time, over all devices; filled up where they do not divide it.
        num_times: Draws for each example: stratified times of a diffusion model, dequantisation
            noise of a flow.
        seed: Seed of times, noise and evaluated samples.
        metrics: Measures of samples: see :class:`genjax.training.quality.SampleQuality`.
        num_samples: Samples they are computed from.
        reference: ``"train"`` or ``"test"``: the split samples are compared with.
        num_reference: Its first rows that are used; all if None.
        features: A ``name`` of :data:`FEATURES` and its arguments; needed by some metrics.
    """

    batch_size: int
    num_times: int = 1
    seed: int = 0
    metrics: Sequence[str] = ()
    num_samples: int = 10_000
    reference: Literal["train", "test"] = "test"
    num_reference: int | None = None
    features: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """The ``sample`` section.

    Attributes:
        num_samples: Samples in all.
        num_steps: Network calls a sample.
        batch_size: Samples at a time; all at once if None.
        seed: Seed of the draws.
    """

    num_samples: int = 64
    num_steps: int = 1000
    batch_size: int | None = None
    seed: int = 0


def build(
    config: ml_collections.ConfigDict,
    *,
    num_devices: int | None = None,
    mode: Literal["train", "eval", "sample", "plan"] = "train",
) -> Experiment:
    """Builds an experiment, checking all that can be checked before compilation.

    Args:
        config: What an experiment file's ``get_config()`` returns, overrides applied.
        num_devices: Devices the batches are spread over; all of this run's if None.
        mode: What it is built for: what is needed for evaluation only is not asked for otherwise.

    Returns:
        The experiment.

    Raises:
        ConfigError: If the config cannot be run.
        MissingDataError: If its data set is not prepared.
    """
    sections = as_dict(config)
    valid = ["data", "eval", "family", "model", "optimizer", "parallel", "sample", "train"]
    unknown = sorted(set(sections) - set(valid))
    if unknown:
        raise ConfigError(f"unknown config section {unknown[0]!r}{_nearest(unknown[0], valid)}")
    sections.setdefault("sample", {})
    sections.setdefault("parallel", {})
    for section in valid:
        if section not in sections:
            raise ConfigError(f"the config has no section {section!r}")

    data_settings = _call(DataSettings, sections["data"], "data")
    train = _call(TrainSettings, sections["train"], "train")
    evaluation = _call(EvalSettings, sections["eval"], "eval")
    sampling = _call(SampleSettings, sections["sample"], "sample")
    parallel = _call(ParallelSettings, sections["parallel"], "parallel")
    num_devices = num_devices or jax.device_count()
    _check_sizes(data_settings, train, evaluation, sampling, num_devices)
    if parallel.fsdp < 1 or num_devices % parallel.fsdp:
        raise ConfigError(
            f"parallel.fsdp must divide the {num_devices} devices, got {parallel.fsdp}"
        )
    if parallel.strategy == "pmap" and parallel.fsdp > 1:
        raise ConfigError(
            f"parallel.strategy 'pmap' copies the state to every device, got fsdp {parallel.fsdp}: "
            "set parallel.fsdp to 1, or the strategy to 'jit'"
        )
    pack_size = sections["family"].get("pack_size", 1)
    if parallel.strategy == "pmap" and data_settings.batch_size // num_devices % pack_size:
        raise ConfigError(
            f"family.pack_size ({pack_size}) must divide the "
            f"{data_settings.batch_size // num_devices} rows of a device under the strategy 'pmap'"
        )

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
        expected = data_settings.event_shape or train_data.event_shape
        if tuple(expected) != dataset.event_shape:
            raise ConfigError(
                f"data.{key}: expected examples of shape {tuple(expected)}, got "
                f"{dataset.event_shape}; is it another data set?"
            )
        if (dataset.num_classes or 0) > (train_data.num_classes or 0):
            raise ConfigError(
                f"data.{key} has labels up to {(dataset.num_classes or 0) - 1}, which "
                f"data.train_split has not"
            )

    parts = Parts(
        model=sections["model"],
        optimizer=sections["optimizer"],
        train_data=train_data,
        data=data_settings,
        eval=evaluation,
        sample=sampling,
    )
    kwargs = dict(sections["family"])
    family, num_classes = _named(FAMILIES, kwargs, "family")(parts, kwargs)
    requests = _sample_requests(train_data, num_classes, 1)
    if family.batches_per_step > 1:
        requests = {name: rows[None] for name, rows in requests.items()}
    try:
        # Traces the model on shapes alone, so that what does not fit is found here.
        state_shapes = jax.eval_shape(family.init, jax.random.key(0), requests)
    except ValueError as error:
        raise ConfigError(f"model or schedule: {error}") from error
    quality = None
    evaluates = mode == "eval" or (mode == "train" and train.eval_every > 0)
    if evaluation.metrics and evaluates:
        if family.sample is None:
            raise ConfigError("eval.metrics measure samples, but this family generates nothing")
        reference = train_data if evaluation.reference == "train" else test_data
        quality = _build_quality(evaluation, reference, data_settings, num_classes)
    if family.eval_step is None and quality is None and evaluates:
        raise ConfigError(
            "this family is evaluated by its samples: name measures in eval.metrics, or set "
            "train.eval_every to 0"
        )
    if mode == "train":
        _check_best_metric(train, family, state_shapes, requests, quality)
    return Experiment(
        family=family,
        state_shapes=state_shapes,
        train_data=train_data,
        test_data=test_data,
        train=train,
        eval=evaluation,
        sample=sampling,
        parallel=parallel,
        data=data_settings,
        num_classes=num_classes,
        quality=quality,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What families are built from, besides their own section."""

    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    train_data: data.DataSet
    data: DataSettings
    eval: EvalSettings
    sample: SampleSettings


def _build_vdm(parts: Parts, kwargs: dict[str, Any]) -> tuple[Family, int | None]:
    model = _build(SCORE_NETS, parts.model, "model")
    _check_fit(model, parts.train_data, "model", conditional=model.num_classes is not None)
    schedule = kwargs.pop("schedule", {})
    family = _call(
        families.vdm,
        kwargs,
        "family",
        score_net=model,
        schedule=_build(SCHEDULES, schedule, "family.schedule"),
        optimizer=_build(OPTIMIZERS, parts.optimizer, "optimizer"),
        event_shape=parts.train_data.event_shape,
        num_levels=parts.train_data.num_levels,
        eval_num_times=parts.eval.num_times,
        sample_num_steps=parts.sample.num_steps,
        # A picture of points takes many of them, one of images a row each.
        num_trajectories=2000 if len(parts.train_data.event_shape) == 1 else 8,
    )
    return family, model.num_classes


def _build_gan(
    make: Callable[..., Family], parts: Parts, kwargs: dict[str, Any]
) -> tuple[Family, int | None]:
    """A generator and a critic, each with a section of its own in ``model`` and ``optimizer``."""
    players = ("generator", "critic")
    for name, section in [("model", parts.model), ("optimizer", parts.optimizer)]:
        if set(section) != set(players) or not all(
            isinstance(v, Mapping) for v in section.values()
        ):
            raise ConfigError(
                f"{name} must have two sections, generator and critic, each with a name; got "
                f"{', '.join(section)}"
            )
    shape = parts.train_data.event_shape
    generator = _build(GENERATORS, parts.model["generator"], "model.generator", event_shape=shape)
    critic = _build(CRITICS, parts.model["critic"], "model.critic")
    for net, where in [(generator, "model.generator"), (critic, "model.critic")]:
        _check_fit(net, parts.train_data, where, conditional=net.num_classes is not None)
    signature = _parameters(make, families.gan)
    # How often the critic's optimiser acts in a step, which its schedule must know.
    turns = {"updates_per_step": 1, "regularize_every": 1}
    for name, told in [("critic_steps", "updates_per_step"), ("penalty_every", "regularize_every")]:
        value = kwargs.get(name, signature[name].default)
        if isinstance(value, int) and value > 0:  # else the family says what is wrong with it
            turns[told] = value
    if turns["regularize_every"] > 1 and parts.optimizer["critic"].get("name") != "adam":
        raise ConfigError(
            "family.penalty_every above 1 needs optimizer.critic.name 'adam', the only one that is "
            "corrected for it"
        )
    once = dict.fromkeys(turns, 1)
    optimizer = {
        f"{name}_optimizer": _build(
            OPTIMIZERS,
            parts.optimizer[name],
            f"optimizer.{name}",
            optional=turns if name == "critic" else once,
        )
        for name in players
    }
    family = _call(
        make,
        kwargs,
        "family",
        extends=families.gan,
        generator=generator,
        critic=critic,
        **optimizer,
        event_shape=shape,
        num_levels=parts.train_data.num_levels,
        batch_size=parts.data.batch_size,
    )
    return family, generator.num_classes


def _build_classifier(parts: Parts, kwargs: dict[str, Any]) -> tuple[Family, int | None]:
    model = _build(CLASSIFIERS, parts.model, "model")
    _check_fit(model, parts.train_data, "model", conditional=True)
    family = _call(
        families.classifier,
        kwargs,
        "family",
        net=model,
        optimizer=_build(OPTIMIZERS, parts.optimizer, "optimizer"),
        event_shape=parts.train_data.event_shape,
        num_levels=parts.train_data.num_levels,
    )
    # Its labels are what it predicts, so they come with every batch.
    return family, model.num_classes


def _build_flow(parts: Parts, kwargs: dict[str, Any]) -> tuple[Family, int | None]:
    dataset = parts.train_data
    shape = dataset.event_shape
    if parts.model.get("name") in VECTOR_FLOWS:
        shape = (int(np.prod(shape)),)
    model = _build(FLOWS, parts.model, "model", event_shape=shape)
    if model.context_size is not None:
        _check_classes(model.context_size, dataset, "model.context_size")
    if model.domain is not None and isinstance(dataset.source, data.ArraySource):
        x = dataset.source.arrays["x"]
        low, high = (0.0, 1.0) if dataset.num_levels else (float(x.min()), float(x.max()))
        if low < model.domain[0] or high > model.domain[1]:
            raise ConfigError(
                f"model: this flow begins with a logit of data in {list(model.domain)}, but "
                f"{dataset.name} has values from {low:.4g} to {high:.4g}; scale them, or take a "
                "flow without"
            )
    if "dequantizer" in kwargs:
        section = kwargs.pop("dequantizer")
        if not isinstance(section, Mapping):
            raise ConfigError(f"family.dequantizer must have a name, got {section!r}")
        kwargs["dequantizer"] = _build(DEQUANTIZERS, section, "family.dequantizer")
    family = _call(
        families.flow,
        kwargs,
        "family",
        model=model,
        optimizer=_build(OPTIMIZERS, parts.optimizer, "optimizer"),
        event_shape=dataset.event_shape,
        num_levels=dataset.num_levels,
        eval_num_draws=parts.eval.num_times,
    )
    return family, model.context_size


def _build_flow_matching(parts: Parts, kwargs: dict[str, Any]) -> tuple[Family, int | None]:
    # A score network that is told the time in place of gamma.
    net = _build(SCORE_NETS, parts.model, "model", gamma_min=0.0, gamma_max=1.0)
    _check_fit(net, parts.train_data, "model", conditional=net.num_classes is not None)
    family = _call(
        families.flow_matching,
        kwargs,
        "family",
        velocity_net=net,
        optimizer=_build(OPTIMIZERS, parts.optimizer, "optimizer"),
        event_shape=parts.train_data.event_shape,
        num_levels=parts.train_data.num_levels,
        eval_num_draws=parts.eval.num_times,
        sample_num_steps=parts.sample.num_steps,
    )
    return family, net.num_classes


_GANS = (
    families.fgan,
    families.gan,
    families.hinge_gan,
    families.lsgan,
    families.mmd_gan,
    families.r3gan,
    families.sngan,
    families.wgan,
    families.wgan_gp,
)
FAMILIES: Mapping[str, Callable[[Parts, dict[str, Any]], tuple[Family, int | None]]] = {
    "classifier": _build_classifier,
    "flow": _build_flow,
    "flow_matching": _build_flow_matching,
    "vdm": _build_vdm,
    **{make.__name__: functools.partial(_build_gan, make) for make in _GANS},
}


def _build_quality(
    evaluation: EvalSettings,
    reference: data.DataSet,
    data_settings: DataSettings,
    num_classes: int | None,
) -> SampleQuality:
    if "label_accuracy" in evaluation.metrics and num_classes is None:
        raise ConfigError("eval.metrics: 'label_accuracy' needs a conditional model")
    features = None
    if evaluation.features is not None:
        kwargs = dict(evaluation.features)
        make = _named(FEATURES, kwargs, "eval.features")
        features = _call(make, kwargs, "eval.features", dataset=reference)
    count = min(evaluation.num_reference or len(reference.source), len(reference.source))
    split = getattr(data_settings, f"{evaluation.reference}_split")
    described = f"{count} rows of {reference.name} {split}"
    try:
        return SampleQuality(
            evaluation.metrics,
            evaluation.num_samples,
            Reference(
                lambda start, stop: reference.source.rows(np.arange(start, stop))["x"],
                count,
                reference.event_shape,
                described,
                reference.mixture,
            ),
            features,
        )
    except ValueError as error:
        raise ConfigError(f"eval: {error}") from error


def _classifier_features(*, dataset: data.DataSet, workdir: str) -> Features:
    """Features of a classifier that was trained here on the same data.

    Args:
        dataset: Data the samples imitate.
        workdir: Directory of the classifier's run.
    """
    from genjax.training.checkpoints import Checkpoints
    from genjax.training.mesh import make_mesh
    from genjax.training.stepping import state_template

    place = epath.Path(workdir).expanduser()
    command = (
        f"python scripts/run.py --config=experiments/classifier/{dataset.name}.py "
        f"--workdir={workdir}"
    )
    try:
        config = json.loads((place / "config.json").read_text())
    except (OSError, ValueError):
        raise ConfigError(
            f"eval.features.workdir: there is no trained classifier in {workdir}; train one first "
            f"({command}), name another workdir, or set train.eval_every to 0"
        ) from None
    if config["family"].get("name") != "classifier" or config["data"]["name"] != dataset.name:
        raise ConfigError(
            f"eval.features.workdir: {workdir} holds a {config['family'].get('name')} of "
            f"{config['data']['name']}, not a classifier of {dataset.name}"
        )
    parts = Parts(
        model=config["model"],
        optimizer=config["optimizer"],
        train_data=dataset,
        data=_call(DataSettings, config["data"], "data"),
        eval=EvalSettings(batch_size=1),
        sample=SampleSettings(),
    )
    kwargs = {key: value for key, value in config["family"].items() if key != "name"}
    family, _ = _build_classifier(parts, kwargs)
    net = _build(CLASSIFIERS, parts.model, "model")
    shapes = jax.eval_shape(family.init, jax.random.key(0), {})
    with Checkpoints(place, read_only=True) as checkpoints:
        restored = checkpoints.restore(state_template(shapes, make_mesh()))
    if restored is None:
        raise ConfigError(f"eval.features.workdir: {workdir} has no checkpoint yet; run {command}")
    step, state, _ = restored
    levels = dataset.num_levels
    assert levels is not None

    def apply(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, features = net.apply(variables, scale_levels(images, levels))
        return features, logits

    return Features(
        name=dataset.name,
        description=(
            f"{config['model']['name']} trained on {dataset.name} for {step} steps, "
            f"weights {_checksum(state.ema['net'])}"
        ),
        apply=apply,
        variables={"params": state.ema["net"]},
    )


def _checksum(tree: Any) -> str:
    """Tells two sets of weights apart."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return f"{total:08x}"


def _inception_features(*, dataset: data.DataSet, weights: str) -> Features:
    """Features of the Inception-v3 that FID is defined by.

    Args:
        dataset: Data the samples imitate.
        weights: File with the published weights: ``.pth`` (which needs torch to read) or ``.npz``
            with the same names.
    """
    if dataset.num_levels != 256 or dataset.event_shape[-1] not in (1, 3):
        raise ConfigError(
            f"eval.features: Inception takes 8-bit images of 1 or 3 channels; {dataset.name} has "
            f"{dataset.num_levels} levels and shape {dataset.event_shape}"
        )
    place = epath.Path(weights).expanduser()
    if not place.exists():
        raise ConfigError(
            f"eval.features.weights: there is no file {weights}; get "
            "pt_inception-2015-12-05-6726825d.pth from the releases of mseitzer/pytorch-fid, or "
            "set train.eval_every to 0"
        )
    try:
        if place.suffix == ".npz":
            with np.load(place) as file:
                arrays = dict(file)
        else:
            try:
                import torch
            except ImportError:
                raise ConfigError(
                    f"eval.features.weights: reading {weights} needs torch (pip install torch); an "
                    ".npz file with the same names does not"
                ) from None
            loaded = torch.load(place, map_location="cpu", weights_only=True)
            arrays = {name: value.numpy() for name, value in loaded.items()}
        variables = nets.inception_variables(arrays)
    except (ValueError, OSError, RuntimeError, BadZipFile, UnpicklingError) as error:
        raise ConfigError(f"eval.features.weights: {weights}: {error}") from error
    net = nets.InceptionV3()

    def apply(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        features, logits = cast(Any, net.apply(variables, images))[:2]
        return features, logits

    return Features(
        name=None,
        description="Inception-v3 2015-12-05, 2048 features, resized as TensorFlow 1",
        apply=apply,
        variables=variables,
    )


FEATURES: Mapping[str, Callable[..., Features]] = {
    "classifier": _classifier_features,
    "inception": _inception_features,
}


def divide_cpu(config: ml_collections.ConfigDict) -> None:
    """Makes ``parallel.cpu_devices`` devices of the CPU; call it before jax looks for devices.

    The flag of XLA that does the same, in the environment, has precedence.

    Args:
        config: As for :func:`build`.

    Raises:
        ConfigError: If it is not a positive number.
    """
    count = config.get("parallel", {}).get("cpu_devices", 1)
    if not isinstance(count, int) or count < 1:
        raise ConfigError(f"parallel.cpu_devices must be a positive number, got {count!r}")
    forced = re.search(
        r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")
    )
    if forced:
        count = int(forced[1])
    elif count > 1:
        jax.config.update("jax_num_cpu_devices", count)
    if count > 1:
        # XLA's pool has a thread for each core, of which each device that waits for the others
        # holds one: on a busy machine none was left for those waited for, and XLA aborted. This is
        # how many XLA takes the cores to be.
        os.environ.setdefault("NPROC", str((os.cpu_count() or 1) + count))


def load_config(file: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Loads an experiment file outside of ``scripts/run.py``.

    Args:
        file: Path, with the file's argument after a colon if it takes one.
        overrides: ``--config.section.key=value``...

    Returns:
        The config.
    """
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    values(["load_config", f"--config={file}", *overrides])
    return cast(ml_collections.ConfigDict, config.value)


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


def _named(table: Mapping[str, Any], kwargs: dict[str, Any], where: str) -> Any:
    """Takes ``name`` out of a section and looks it up."""
    name = kwargs.pop("name", None)
    if name is None:
        raise ConfigError(f"{where} has no name; valid: {', '.join(sorted(table))}")
    if name not in table:
        raise ConfigError(f"unknown {where}.name {name!r}{_nearest(str(name), table)}")
    return table[name]


def _build(
    table: Mapping[str, Callable[..., Any]],
    section: Mapping[str, Any],
    where: str,
    *,
    optional: Mapping[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Builds what a section names; ``optional`` arguments go to functions that have them."""
    kwargs = dict(section)
    function = _named(table, kwargs, where)
    names = _parameters(function)
    given |= {name: value for name, value in (optional or {}).items() if name in names}
    return _call(function, kwargs, where, **given)


def _parameters(
    function: Callable[..., Any], extends: Callable[..., Any] | None = None
) -> dict[str, inspect.Parameter]:
    """Parameters of a function; where it has ``**kwargs``, those of what it extends too."""
    parameters = dict(inspect.signature(function).parameters)
    if isinstance(function, type) and issubclass(function, nn.Module):
        del parameters["parent"], parameters["name"]  # Linen's own
    passes_on = [n for n, p in parameters.items() if p.kind is p.VAR_KEYWORD]
    for name in passes_on:
        del parameters[name]
    if passes_on and extends is not None:
        # What the alias decides itself is not to be given.
        fixed = getattr(function, "fixes", ())
        base = _parameters(extends)
        parameters = {**{n: p for n, p in base.items() if n not in fixed}, **parameters}
    return parameters


def _call(
    function: Callable[..., Any],
    kwargs: Mapping[str, Any],
    where: str,
    *,
    extends: Callable[..., Any] | None = None,
    **given: Any,
) -> Any:
    """Calls with checked keyword arguments; errors name the config key."""
    parameters = _parameters(function, extends)
    names = [n for n in parameters if n not in given]
    hints = typing.get_type_hints(function)
    if extends is not None:
        hints = {**typing.get_type_hints(extends), **hints}
    for name, value in kwargs.items():
        if name not in names:
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
    size = data_settings.batch_size
    if size < 1 or size % num_devices:
        raise ConfigError(
            f"data.batch_size must be a positive multiple of the {num_devices} devices, got {size}"
        )
    for name, value, least in [
        ("eval.batch_size", evaluation.batch_size, 1),
        ("train.num_steps", train.num_steps, 1),
        ("train.steps_per_call", train.steps_per_call, 1),
        ("train.log_every", train.log_every, 1),
        ("train.eval_every", train.eval_every, 0),
        ("train.sample_every", train.sample_every, 0),
        ("train.checkpoint_every", train.checkpoint_every, 1),
        ("train.keep_checkpoints", train.keep_checkpoints, 1),
        ("sample.num_samples", sampling.num_samples, 1),
        ("sample.batch_size", 1 if sampling.batch_size is None else sampling.batch_size, 1),
        ("sample.num_steps", sampling.num_steps, 1),
        ("eval.num_times", evaluation.num_times, 1),
        ("eval.num_samples", evaluation.num_samples, 2),
        ("eval.num_reference", evaluation.num_reference or 2, 2),
        ("data.num_workers", data_settings.num_workers, 0),
        ("data.device_limit_mib", data_settings.device_limit_mib, 0),
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


def _check_best_metric(
    train: TrainSettings,
    family: Family,
    state_shapes: TrainState,
    requests: Mapping[str, np.ndarray],
    quality: SampleQuality | None,
) -> None:
    """Whether evaluation gives the metric that decides on the best checkpoint."""
    names = set(quality.names) if quality else set()
    if family.eval_step is not None:
        rows = {**requests, "index": np.zeros(1, np.int32)}
        names |= set(jax.eval_shape(family.eval_step, state_shapes, rows, jax.random.key(0)))
    named = sorted(f"eval/{name}" for name in names if not name.startswith(HIGHER_IS_BETTER))
    if train.eval_every and train.best_metric not in named:
        raise ConfigError(
            f"train.best_metric {train.best_metric!r} is not evaluated, or not one whose lowest "
            "value is the best"
            f"{_nearest(train.best_metric, named)}"
        )


def _check_fit(net: Any, dataset: data.DataSet, where: str, *, conditional: bool) -> None:
    """Whether a network takes such examples; found on shapes alone, before any compilation."""
    if len(dataset.event_shape) != net.event_rank:
        kinds = {1: "points [D]", 3: "images [H, W, C]"}
        raise ConfigError(
            f"{where}: {type(net).__name__} takes {kinds[net.event_rank]}, but an example of "
            f"{dataset.name} has shape {dataset.event_shape}"
        )
    if conditional:
        _check_classes(net.num_classes, dataset, f"{where}.num_classes")


def _check_classes(num_classes: int, dataset: data.DataSet, where: str) -> None:
    """Whether the data has as many classes as a model."""
    if dataset.num_classes is None:
        raise ConfigError(
            f"{where} is {num_classes}, but {dataset.name} has no labels; set it to None"
        )
    if num_classes != dataset.num_classes:
        raise ConfigError(
            f"{where} is {num_classes}, but {dataset.name} has {dataset.num_classes} classes"
        )
