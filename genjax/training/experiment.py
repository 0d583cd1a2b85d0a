"""What a run is made from: a family, its data and its settings. No config is needed for it."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from genjax.data import (
    Augment,
    DataSet,
    Feature,
    JoinedSource,
    Source,
    TrainBatches,
    Transform,
    augmenter,
    column,
    stream_name,
    stream_seed,
)
from genjax.families.base import Family, TrainState
from genjax.training import mesh as meshes
from genjax.training.loggers import MakeLogger
from genjax.training.loop import Periods
from genjax.training.quality import HIGHER_IS_BETTER, Features, SampleQuality
from genjax.training.random import random_key


def _at_least(section: str, settings: Any, **least: int) -> None:
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            raise ValueError(f"{section}.{name} must be at least {smallest}, got {value}")


def _check_seed(section: str, seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise ValueError(f"{section}.seed must be in [0, 2**32), got {seed}")


def _check_names(key: str, names: Sequence[str]) -> None:
    """Refuses a string, which is a sequence of strings, too."""
    if isinstance(names, str):
        raise ValueError(f"{key} must be a tuple of names, such as ({names!r},), got {names!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The ``data`` section.

    Attributes:
        name: Name of the data set (:func:`genjax.data.load`), or an import path
            ``package.module:function`` of what loads it. Configs must have it; an experiment that
            is made by hand brings its data.
        batch_size: Examples a step, over all devices.
        data_dir: Where the data is. None for ``$TFDS_DATA_DIR`` or the TFDS default.
        options: Further arguments of what loads the data: of ``images``, ``table``,
            ``huggingface``, ``glyphs``, ``text``, or of a function named by an import path.
        train_split: Split to train on, or a part of one, such as ``train[:90%]``.
        test_split: Split to evaluate on.
        classes: Class ids of the examples that are kept, of both splits; None for all. The others
            are then what a model was never shown.
        labelled: ``dict(per_class=10, seed=0)`` keeps as many training rows of each class, drawn by
            the seed (:func:`genjax.data.labelled_rows`), for a run that knows few labels; None for
            all. Of the stream that says so: others do not take it over from the first.
        memory_limit_mib: Larger sets are streamed.
        device_limit_mib: Sets in memory of at most this many MiB are also kept whole on each
            device, where the compiled step picks its rows; larger ones go there batch by batch.
        num_workers: Processes that decode streamed sets.
        event_shape: Shape of an example that the data must have; None for any.
        transforms: What is done to ``x``, in order: each a ``name`` and its arguments.
        standardize: Whether models see real-valued ``x`` less its mean, divided by its standard
            deviation in the training split (of each column, of images of each channel). Samples and
            likelihoods are in the units of the data all the same. None for where an entry is far
            from mean 0 and standard deviation 1.
        binarize: How models see bits in place of grey levels ``x``, which are their probabilities:
            drawn anew in each step (``"dynamic"``), once for each example (``"static"``), or the
            upper half of the range (``"threshold"``). Samples are black and white.
        first_stage: ``dict(workdir=...)`` of a run whose latents (codes) the model is of; with
            ``scale`` and ``latents`` as of :class:`genjax.config.first_stage.FirstStageSettings`.
        embeddings: ``dict(workdir=...)`` of a contrastive run: networks may be told its vectors,
            ``embedding`` of ``x`` and ``text_embedding`` of ``tokens``. With ``what="x"`` the model
            is one of the vectors of ``x`` itself.
        streams: Further streams of the run by name, each a section like this one that says what
            differs. Their features come to the family as ``stream/x``.
    """

    name: str | None = None
    batch_size: int
    data_dir: str | None = None
    options: Mapping[str, Any] | None = None
    train_split: str = "train"
    test_split: str = "test"
    classes: Sequence[int] | None = None
    labelled: Mapping[str, Any] | None = None
    memory_limit_mib: int = 2048
    device_limit_mib: int = 1024
    num_workers: int = 0
    event_shape: Sequence[int] | None = None
    transforms: Sequence[Mapping[str, Any]] = ()
    standardize: bool | None = None
    binarize: Literal["dynamic", "static", "threshold"] | None = None
    first_stage: Mapping[str, Any] | None = None
    embeddings: Mapping[str, Any] | None = None
    streams: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _at_least("data", self, num_workers=0, device_limit_mib=0, memory_limit_mib=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelSettings:
    """The ``parallel`` section.

    Attributes:
        strategy: ``"jit"``: one program over global arrays. ``"pmap"``: each device runs the step
            on its rows, and gradients, metrics and network state are averaged over devices, as
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

    def __post_init__(self) -> None:
        _at_least("parallel", self, plan_devices=0)
        if self.strategy not in ("jit", "pmap"):
            raise ValueError(f"parallel.strategy must be 'jit' or 'pmap', got {self.strategy!r}")
        if self.cpu_devices < 1:
            raise ValueError(
                f"parallel.cpu_devices must be a positive number, got {self.cpu_devices}"
            )


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
        loggers: Where metrics, pictures and the config go besides the workdir's files: ``"wandb"``,
            ``"mlflow"``, or import paths of what makes a logger
            (:class:`genjax.training.loggers.MakeLogger`).
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
    loggers: Sequence[str] = ()

    def __post_init__(self) -> None:
        _at_least("train", self, num_steps=1, steps_per_call=1, log_every=1, eval_every=0,
                  sample_every=0, checkpoint_every=1, keep_checkpoints=1)  # fmt: skip
        _check_seed("train", self.seed)
        _check_names("train.loggers", self.loggers)

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
        streams: Further streams whose test rows are scored, too, as rows of the first stream are:
            by their ``x`` and ``label``. Their numbers have the name of the stream before them,
            such as ``eval/target_error``; none of them decides on the best checkpoint.
        metrics: Measures of samples, and of reconstructions: see
            :class:`genjax.training.quality.SampleQuality`.
        num_samples: Samples they are computed from.
        reference: ``"train"`` or ``"test"``: the split samples are compared with.
        num_reference: Its first rows that are used; all if None.
        features: Network whose features some metrics compare: a ``name`` and its arguments.
        statistics: An ``.npz`` with mean ``mu`` and covariance ``sigma`` of features, as
            pytorch-fid, clean-fid and ``scripts/fid_statistics.py`` write: what the metric ``fd``
            compares samples with, in place of the reference split. The other metrics keep the
            split.
    """

    batch_size: int = 256
    num_times: int = 1
    seed: int = 0
    streams: Sequence[str] = ()
    metrics: Sequence[str] = ()
    num_samples: int = 10_000
    reference: Literal["train", "test"] = "test"
    num_reference: int | None = None
    features: Mapping[str, Any] | None = None
    statistics: str | None = None

    def __post_init__(self) -> None:
        _at_least("eval", self, batch_size=1, num_times=1, num_samples=2, num_reference=2)
        _check_seed("eval", self.seed)
        _check_names("eval.metrics", self.metrics)
        _check_names("eval.streams", self.streams)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """The ``sample`` section.

    Attributes:
        num_samples: Samples in all.
        num_steps: Steps from noise to data, each of one network call for most samplers.
        sampler: How denoising models go from noise to data: a ``name`` and its arguments. None for
            the family's own way.
        guidance: What makes their samples of a class more typical of it: a ``name`` and its
            arguments. None for none.
        batch_size: Samples at a time; all at once if None.
        seed: Seed of the draws.
    """

    num_samples: int = 64
    num_steps: int = 1000
    sampler: Mapping[str, Any] | None = None
    guidance: Mapping[str, Any] | None = None
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least("sample", self, num_samples=1, num_steps=1, batch_size=1)
        _check_seed("sample", self.seed)


@dataclasses.dataclass(frozen=True)
class Edited:
    """What an edit made.

    Attributes:
        pictures: Pictures ``[H, W, 3]`` uint8, by what is added to the edit's name.
        arrays: Arrays worth keeping, by name.
        numbers: What was measured, by name.
    """

    pictures: Mapping[str, np.ndarray]
    arrays: Mapping[str, np.ndarray]
    numbers: Mapping[str, float]


class Edit(abc.ABC):
    """An edit as a value: the ``edit`` section of a config."""

    @abc.abstractmethod
    def apply(self, context: Any) -> Edited:
        """Does it.

        Args:
            context: A :class:`genjax.training.edits.Context`.

        Returns:
            What it made.

        Raises:
            ValueError: If the model or the data does not fit.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """One of the data sets that a step takes batches from.

    Attributes:
        train: Split to train on.
        test: Split to evaluate on, and to take from what samples are conditioned on.
        batch_size: Examples a step, over all devices.
        transforms: What is done to ``x``: those that are drawn anew in each step.
    """

    train: DataSet
    test: DataSet
    batch_size: int
    transforms: Sequence[Transform] = ()


def spec_of(streams: Mapping[str, Stream]) -> dict[str, Feature]:
    """Features of a batch of several streams, by the names they have there."""
    return {
        stream_name(name, feature): described
        for name, stream in streams.items()
        for feature, described in stream.train.spec.items()
    }


def in_shares_of(labels: np.ndarray, count: int) -> np.ndarray:
    """Class ids of the same shares as given ones, as nearly as whole numbers allow.

    Args:
        labels: Class ids ``[N]``.
        count: Number of class ids to give.

    Returns:
        int32 ``[count]``, in an order that depends on nothing but ``count``, so that batches are
        mixed.

    Example:
        >>> sorted(in_shares_of(np.array([3, 3, 3, 7]), 8).tolist())
        [3, 3, 3, 3, 3, 3, 7, 7]
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = count * sizes / sizes.sum()
    counts = np.floor(exact).astype(int)
    # The largest remainders get what is left.
    counts[np.argsort(counts - exact, kind="stable")[: count - counts.sum()]] += 1
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, count))))
    return np.asarray(order.permutation(np.repeat(classes, counts)), np.int32)


def check_batch_size(where: str, size: int, num_devices: int) -> None:
    """Whether batches can be spread over so many devices.

    Args:
        where: Section of the stream, for the message.
        size: Examples a step.
        num_devices: Number of devices.

    Raises:
        ValueError: If they cannot.
    """
    if size < 1 or size % num_devices:
        raise ValueError(
            f"{where}.batch_size must be a positive multiple of the {num_devices} devices, got "
            f"{size}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """All that a run is made from.

    Attributes:
        family: The model and how it is trained.
        streams: Where batches come from. The first is called ``""``; evaluation and pictures are
            about its ``x``.
        data: Settings of the batches.
        train: Settings of the loop.
        eval: Settings of evaluation.
        sample: Settings of sampling.
        parallel: How the run is spread over devices.
        quality: Makes the measures of samples that evaluation gives, when they are first needed:
            the features of some are another run's, or a file's. None for no measures.
        features: Makes the network that samples are compared by, when it is first needed; None for
            none.
        edit: What ``--mode=edit`` does; None for nothing.
        frozen: What loads the state of networks that were trained before, by the name of the
            network: a new run starts with it, a resumed one has it.
        started: What loads the variables of networks that were trained before and are to be trained
            further, by the name of the network: as ``frozen``.
        networks: The networks by their names in the state.
        resampled: Makes the family with other settings of sampling, if that can be: ``(settings,
            sampler=None, guidance=None)``, of which the last two, mappings or values, take the
            place of those in the settings.
        learning_rates: Learning rate of the last update in so many training steps, for the log: of
            each player, named ``""`` where there is but one. What is not known is left out.
        loggers: What makes further loggers of metrics, by name.
        config: The complete config as JSON data, if there is one: a run in the same workdir is
            held against it.

    Raises:
        ValueError: If these do not fit each other.
    """

    family: Family
    streams: Mapping[str, Stream]
    data: DataSettings
    train: TrainSettings
    eval: EvalSettings = EvalSettings()
    sample: SampleSettings = SampleSettings()
    parallel: ParallelSettings = ParallelSettings()
    quality: Callable[[], SampleQuality] | None = None
    features: Callable[[], Features] | None = None
    edit: Edit | None = None
    frozen: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    started: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    networks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    resampled: Callable[..., Family] | None = None
    learning_rates: Mapping[str, Callable[[int], float]] = dataclasses.field(default_factory=dict)
    loggers: Mapping[str, MakeLogger] = dataclasses.field(default_factory=dict)
    config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        missing = [name for name in self.family.reads if name not in self.spec]
        if missing:
            raise ValueError(
                f"the family samples from {missing[0]}, which the data has not: it has "
                f"{', '.join(self.spec)}"
            )

    @property
    def train_data(self) -> DataSet:
        """Split of the first stream to train on."""
        return self.streams[""].train

    @property
    def test_data(self) -> DataSet:
        """Split of the first stream to evaluate on."""
        return self.streams[""].test

    @property
    def spec(self) -> dict[str, Feature]:
        """Features of a batch, of all streams."""
        return spec_of(self.streams)

    @property
    def streams_read(self) -> tuple[str, ...]:
        """Streams whose test rows evaluation looks at: the first, and those that samples need."""
        others = {name.rpartition("/")[0] for name in self.family.reads}
        return ("", *(name for name in self.streams if name and name in others))

    def eval_source(self) -> Source:
        """Test rows of the first stream, beside those of others that samples are made from."""
        sources = {name: self.streams[name].test.source for name in self.streams_read}
        return JoinedSource(sources) if len(sources) > 1 else sources[""]

    @functools.cached_property
    def state_shapes(self) -> TrainState:
        """The family's state as ``jax.ShapeDtypeStruct`` leaves, traced on shapes alone.

        Raises:
            ValueError: If the networks do not fit the data.
        """
        return jax.eval_shape(self.family.init, jax.random.key(0), self.step_shapes())

    def batch_shapes(self, num_devices: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of one batch of all streams, or of a device's share of it."""
        found = {}
        for name, feature in self.spec.items():
            stream, _, _ = name.rpartition("/")
            rows = self.streams[stream].batch_size // num_devices
            found[name] = jax.ShapeDtypeStruct((rows, *feature.shape), feature.dtype)
        return found

    def step_shapes(self, num_devices: int = 1) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of what a training step takes, or of a device's share of it."""
        count = self.family.batches_per_step
        lead = (count,) if count > 1 else ()
        return {
            name: jax.ShapeDtypeStruct((*lead, *rows.shape), rows.dtype)
            for name, rows in self.batch_shapes(num_devices).items()
        }

    def sample_requests(
        self, num_samples: int, *, labels: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """A batch of rows to sample from.

        Labels go through the classes that occur in training in turn, or have given shares;
        whatever else the family reads comes from the first rows of the test split, again from the
        start where there are too few, and the labels of such rows with them. ``x`` is not data,
        unless it is read.

        Args:
            num_samples: Number of rows.
            labels: Class ids whose shares those asked for are to have, such as those of the data
                that samples are compared with.

        Returns:
            Features ``[num_samples, ...]``: ``x``, and what the family reads.
        """
        x = self.spec["x"]
        requests = {"x": np.zeros((num_samples, *x.shape), x.dtype)}
        of_rows = self._streams_of_rows()
        for name in self.family.reads:
            stream, _, feature = name.rpartition("/")
            num_classes = self.spec[name].num_classes
            if num_classes is None or self.spec[name].shape or stream in of_rows:
                requests[name] = self._test_rows(stream, num_samples)[feature]
            elif labels is not None:
                requests[name] = in_shares_of(labels, num_samples)
            else:
                classes = self._classes(name, num_classes)
                requests[name] = classes[np.arange(num_samples) % len(classes)]
        return requests

    def sample_labels(self, requests: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Class ids that samples should be of.

        Args:
            requests: What they were asked from: see :meth:`sample_requests`.

        Returns:
            The labels that were asked for, or those of the rows that samples were made from,
            ``[num_samples]``; None where there are neither.
        """
        if "label" in requests:
            return requests["label"]
        for stream in self._streams_of_rows():
            if "label" in self.streams[stream].test.spec:
                return self._test_rows(stream, len(requests["x"]))["label"]
        return None

    @property
    def samples_have_labels(self) -> bool:
        """Whether it is known which class a sample should be of: see :meth:`sample_labels`."""
        labelled = (self.streams[name].test.spec for name in self._streams_of_rows())
        return "label" in self.family.reads or any("label" in spec for spec in labelled)

    def _streams_of_rows(self) -> list[str]:
        """Streams whose rows samples are made from, not their classes alone."""
        rows = [
            name
            for name in self.family.reads
            if self.spec[name].num_classes is None or self.spec[name].shape
        ]
        return list(dict.fromkeys(name.rpartition("/")[0] for name in rows))

    def _test_rows(self, stream: str, count: int) -> dict[str, np.ndarray]:
        """So many first rows of the test split, again from the start where there are too few."""
        source = self.streams[stream].test.source
        return source.rows(np.arange(count) % len(source))

    def _classes(self, name: str, num_classes: int) -> np.ndarray:
        """Class ids that occur in training, as far as that is known without decoding it."""
        stream, _, feature = name.rpartition("/")
        found = column(self.streams[stream].train.source, feature)
        if found is None:
            return np.arange(num_classes, dtype=np.int32)
        return np.unique(found).astype(np.int32)

    def train_batches(self) -> dict[str, TrainBatches]:
        """This process's batches of each stream."""
        return {
            name: TrainBatches(
                stream.train.source,
                stream.batch_size,
                seed=self._seed_of(name),
                batches_per_step=self.family.batches_per_step,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            )
            for name, stream in self.streams.items()
        }

    def augment(self) -> dict[str, Augment]:
        """What is drawn anew in each step for the rows of a stream, where anything is."""
        found = {}
        for name, stream in self.streams.items():
            key = random_key(self._seed_of(name), "augment")
            made = augmenter(stream.transforms, key, len(stream.train.event_shape))
            if made is not None:
                found[name] = made
        return found

    def _seed_of(self, stream: str) -> int:
        """The seed of a stream, by its name: a config that was written down has another order."""
        return stream_seed(self.train.seed, stream) if stream else self.train.seed

    def on_devices(self) -> tuple[Family, Mesh]:
        """The family as the devices run it, and the mesh of all of them."""
        mesh = meshes.make_mesh(fsdp=self.parallel.fsdp)
        if self.parallel.strategy == "pmap":
            return meshes.per_device(self.family, mesh), mesh
        return self.family, mesh

    def check_augment(self) -> None:
        """Whether the rows of all streams can be augmented, traced on shapes alone.

        Raises:
            Exception: What a transform raises that does not fit the data.
        """
        rows = self.step_shapes()
        for name, augment in self.augment().items():
            own = {key: rows[stream_name(name, key)] for key in self.streams[name].train.spec}
            jax.eval_shape(augment, own, jax.ShapeDtypeStruct((), np.int32))

    def check_step(self, num_devices: int = 1) -> None:
        """Whether a training step can be made, traced on shapes alone.

        Args:
            num_devices: Devices that the rows of a step are spread over where each makes its own.

        Raises:
            Exception: What a part raises that does not fit.
        """
        rows = self.step_shapes(num_devices)
        jax.eval_shape(self.family.train_step, self.state_shapes, rows, jax.random.key(0))

    def check_devices(self, num_devices: int) -> None:
        """Whether the run can be spread over so many devices.

        Raises:
            ValueError: If it cannot.
        """
        for name, stream in self.streams.items():
            where = f"data.streams.{name}" if name else "data"
            check_batch_size(where, stream.batch_size, num_devices)
        fsdp = self.parallel.fsdp
        if fsdp < 1 or num_devices % fsdp:
            raise ValueError(f"parallel.fsdp must divide the {num_devices} devices, got {fsdp}")
        if self.parallel.strategy == "pmap" and fsdp > 1:
            raise ValueError(
                f"parallel.strategy 'pmap' copies the state to every device, got fsdp {fsdp}: "
                "set parallel.fsdp to 1, or the strategy to 'jit'"
            )
        if self.parallel.strategy == "pmap":
            # Each device runs the step on its rows: what does not divide is found here.
            self.check_step(num_devices)

    def check_evaluation(self) -> None:
        """Whether evaluation has something to say, and all that it needs.

        Raises:
            ValueError: If it has not.
        """
        for name in self.eval.streams:
            self._check_scored(name)
        if self.quality is not None:
            quality = self.quality()
            if quality.of_samples and self.family.sample is None:
                raise ValueError("eval.metrics measure samples, but this family generates nothing")
            if quality.of_reconstructions and self.family.reconstruct is None:
                raise ValueError(
                    "eval.metrics: 'rfd' and 'psnr' measure reconstructions, but this family has "
                    "none: they are of autoencoders, and of models of their latents"
                )
        elif self.family.eval_step is None:
            raise ValueError(
                "this family is evaluated by its samples: name measures in eval.metrics, or set "
                "train.eval_every to 0"
            )

    def _check_scored(self, name: str) -> None:
        """Whether the test rows of a further stream are of the kind of the first one's."""
        further = [stream for stream in self.streams if stream]
        if name not in further:
            raise ValueError(
                f"eval.streams: there is no stream {name!r}; there are "
                f"{', '.join(further) or 'none: name one in data.streams'}"
            )
        if self.family.eval_step is None:
            raise ValueError("eval.streams: this family has no score of single examples")
        ours, theirs = self.test_data.spec, self.streams[name].test.spec
        for feature, own in ours.items():
            other = theirs.get(feature)
            if other is None or own.shape != other.shape or (own.num_levels != other.num_levels):
                raise ValueError(
                    f"eval.streams: rows of {name} are scored as rows of the first stream are, "
                    f"whose {feature} is another or missing there"
                )

    def check_best_metric(self) -> None:
        """Whether evaluation in training gives the metric that decides on the best checkpoint.

        Raises:
            ValueError: If it does not.
        """
        if not self.train.eval_every:
            return
        family = self.family
        names = set() if self.quality is None else set(self.quality().names)
        if family.eval_step is not None:
            read = self.streams_read
            rows = {n: s for n, s in self.batch_shapes().items() if n.rpartition("/")[0] in read}
            rows["index"] = jax.ShapeDtypeStruct(rows["x"].shape[:1], np.int32)
            key = jax.random.key(0)
            names |= set(jax.eval_shape(family.eval_step, self.state_shapes, rows, key))
        named = sorted(f"eval/{name}" for name in names if not name.startswith(HIGHER_IS_BETTER))
        if self.train.best_metric not in named:
            raise ValueError(
                f"train.best_metric {self.train.best_metric!r} is not evaluated, or not one whose "
                f"lowest value is the best; valid: {', '.join(named)}"
            )
