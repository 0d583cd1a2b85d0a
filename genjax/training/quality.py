"""Quality of samples against a reference split, with the protocol of every number."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from genjax import evaluation
from genjax.training import mesh as meshes
from genjax.training.evaluate import Wrap
from genjax.training.feature_statistics import FeatureStatistics

_OF_FEATURES = ("fd", "kid", "precision_recall", "density_coverage")
_OF_LOGITS = ("class_modes", "inception_score", "label_accuracy")
_OF_POINTS = ("w1", "w2", "sliced_w2")
_OF_RECONSTRUCTIONS = ("rfd", "psnr")
# Rows of data and of samples that a metric needs at least.
_LEAST = {"kid": 20, "inception_score": 10, "precision_recall": 4, "density_coverage": 6}
HIGHER_IS_BETTER = (
    "precision", "recall", "density", "coverage", "inception_score", "classifier_score",
    "label_accuracy", "modes_covered", "high_quality", "psnr", "inverse_psnr",
)  # fmt: skip
"""How names of numbers begin that are better the higher they are."""
METRICS = (*_OF_FEATURES, *_OF_LOGITS, *_OF_POINTS, "modes", *_OF_RECONSTRUCTIONS)


@dataclasses.dataclass(frozen=True)
class Features:
    """A network whose features samples are compared by.

    Attributes:
        name: Suffix of the names of numbers that use it, such as ``mnist``; None for Inception's,
            whose numbers have names of their own (FID, KID).
        description: What it is, for the protocol: architecture, where its weights come from,
            how images are resized.
        apply: ``(variables, levels [B, H, W, C]) -> (features [B, D], logits [B, K])``.
        variables: Its variables.
    """

    name: str | None
    description: str
    apply: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]
    variables: Any


@dataclasses.dataclass(frozen=True)
class Reference:
    """What samples are compared with.

    Attributes:
        rows: ``(start, stop)`` to data rows ``[stop - start, *event]``, decoded when asked for.
        count: Number of rows.
        event_shape: Shape of one.
        description: Which rows these are, for the protocol.
        mixture: Centres ``[K, D]`` and standard deviation, if the data is a known mixture.
        labels: Class ids of these rows, ``[count]``, if there are classes and they are at hand.
        num_levels: Number of grey levels; None for real numbers.
    """

    rows: Callable[[int, int], np.ndarray]
    count: int
    event_shape: tuple[int, ...]
    description: str
    mixture: tuple[np.ndarray, float] | None = None
    labels: np.ndarray | None = None
    num_levels: int | None = None


class SampleQuality:
    """Measures samples; features of the reference are computed once.

    Args:
        metrics: Of :data:`METRICS`. ``fd`` is the Fréchet distance of features, ``kid`` the kernel
            distance, ``inception_score``, ``label_accuracy`` (the share of conditional samples
            classified as their label) and ``class_modes`` (how samples are spread over the classes)
            look at the classifier's logits; ``w1``, ``w2`` and
            ``sliced_w2`` at the points themselves; ``modes`` at a known mixture. ``rfd``, the
            Fréchet distance, and ``psnr`` are of reconstructions of the reference, not of samples:
            ``rfd`` is the least ``fd`` that models of the latents can be expected to have.
        num_samples: Samples to draw.
        reference: What they are compared with.
        features: Needed by the first seven.
        statistics: What ``fd`` compares samples with, in place of the reference; other metrics
            compare with the reference all the same.

    Raises:
        ValueError: If a metric is unknown or lacks what it needs, or the statistics are of other
            features.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        num_samples: int,
        reference: Reference,
        features: Features | None,
        statistics: FeatureStatistics | None = None,
    ):
        for metric in metrics:
            if metric not in METRICS:
                raise ValueError(f"metrics must be among {', '.join(METRICS)}, got {metric!r}")
            if features is None and metric in (*_OF_FEATURES, *_OF_LOGITS, "rfd"):
                raise ValueError(f"the metric {metric!r} needs features")
            if metric == "psnr" and reference.num_levels is None:
                raise ValueError("the metric 'psnr' needs grey levels, whose range is the peak")
            if metric == "modes" and reference.mixture is None:
                raise ValueError("the metric 'modes' needs data that is a known mixture, as ring")
            if min(num_samples, reference.count) < _LEAST.get(metric, 2):
                raise ValueError(
                    f"the metric {metric!r} needs at least {_LEAST.get(metric, 2)} samples and "
                    f"rows of data, got num_samples {num_samples} and {reference.count} rows"
                )
            if metric in _OF_POINTS and len(reference.event_shape) != 1:
                raise ValueError(f"the metric {metric!r} needs points, not images")
        self.metrics = tuple(metrics)
        self.num_samples = num_samples
        self._reference = reference
        self._features = features
        self._statistics = statistics
        if statistics is not None:
            self._check_statistics(statistics)
        self._reference_features: np.ndarray | None = None
        self._apply: Any = None

    def _check_statistics(self, statistics: FeatureStatistics) -> None:
        if "fd" not in self.metrics:
            raise ValueError(
                "eval.statistics: only the metric 'fd' is of statistics; add it to eval.metrics or "
                "set eval.statistics to None"
            )
        assert self._features is not None  # which fd needs
        own = self._features
        if statistics.features not in (None, own.description):
            raise ValueError(
                f"eval.statistics: {statistics.description} is of the features "
                f"{statistics.features!r}, expected {own.description!r}; write the statistics anew "
                "with scripts/fid_statistics.py"
            )
        found, _ = jax.eval_shape(own.apply, own.variables, self._reference.rows(0, 1))
        if statistics.mean.shape != found.shape[1:]:
            raise ValueError(
                f"eval.statistics: {statistics.description} is of {len(statistics.mean)} features, "
                f"expected the {found.shape[1]} of {own.description}; was it written with another "
                "network?"
            )

    def _compares(self, metric: str) -> bool:
        """Whether a metric looks at the features of the reference."""
        return metric in _OF_FEATURES and (metric != "fd" or self._statistics is None)

    @property
    def of_samples(self) -> bool:
        """Whether any number is of samples."""
        return not set(self.metrics) <= set(_OF_RECONSTRUCTIONS)

    @property
    def of_reconstructions(self) -> bool:
        """Whether any number is of reconstructions."""
        return bool(set(self.metrics) & set(_OF_RECONSTRUCTIONS))

    @property
    def num_reference(self) -> int:
        """Rows of the reference, which are those to reconstruct."""
        return self._reference.count

    @property
    def labels(self) -> np.ndarray | None:
        """Class ids of the reference: conditional samples are asked for in their shares."""
        return self._reference.labels

    @property
    def names(self) -> list[str]:
        """Names of the numbers that :meth:`measure` gives."""
        return [name for metric in self.metrics for name in self._names_of(metric)]

    def _names_of(self, metric: str) -> list[str]:
        """Names of the numbers of one metric."""
        own = {
            "fd": [self._name("fid", "fd")],
            "rfd": [self._name("rfid", "rfd")],
            "kid": [self._name("kid", "kd")],
            "precision_recall": [self._name("precision"), self._name("recall")],
            "density_coverage": [self._name("density"), self._name("coverage")],
            "inception_score": [self._name("inception_score", "classifier_score")],
            "class_modes": [self._name("modes_covered"), self._name("mode_kl")],
            "label_accuracy": [self._name("label_accuracy")],
            "modes": ["modes_covered", "high_quality", "mode_kl"],
        }
        return own.get(metric, [metric])

    def _name(self, of_inception: str, of_others: str | None = None) -> str:
        """The name of a number from features: only Inception's have the literature's names."""
        if self._features is None or self._features.name is None:
            return of_inception
        return f"{of_others or of_inception}_{self._features.name}"

    def measure(
        self,
        samples: np.ndarray,
        labels: np.ndarray | None,
        *,
        mesh: Mesh,
        batch_size: int,
        progress: Wrap,
    ) -> dict[str, float | int | str]:
        """Measures samples.

        Args:
            samples: ``[N, *event]``, whole grey levels or points.
            labels: Class ids they were asked for, ``[N]``, if the model is conditional.
            mesh: Where features are computed.
            batch_size: Images at a time.
            progress: ``(items, total, label) -> items``, to show progress.

        Returns:
            Numbers by name, and the protocol. Names of numbers from features end in the name of the
            network, but for Inception's. Where samples, or their features or logits, are not finite
            the numbers made from them are NaN, and ``_num_nonfinite`` counts such samples.
        """
        result: dict[str, float | int | str] = {}
        if self._features is not None:
            result |= self._of_features(samples, labels, mesh, batch_size, progress)
        reference = self._reference
        for metric in self.metrics:
            if metric not in (*_OF_POINTS, "modes"):
                continue
            if undefined := self._undefined(metric, samples):
                result |= undefined
            elif metric == "sliced_w2":
                rows = reference.rows(0, reference.count)
                result[metric] = evaluation.sliced_wasserstein_distance(samples, rows)
            elif metric in _OF_POINTS:
                rows = reference.rows(0, reference.count)
                result[metric] = evaluation.wasserstein_distance(samples, rows, p=int(metric[1:]))
            elif reference.mixture is not None:
                result |= evaluation.mode_coverage(samples, *reference.mixture)
        result["num_samples"] = len(samples)
        result["reference"] = self._reference.description
        if self._statistics is not None:
            result[f"{self._name('fid', 'fd')}_statistics"] = self._statistics.description
            if self.metrics == ("fd",):
                result["reference"] = self._statistics.description
        return result

    def measure_reconstructions(
        self, rows: np.ndarray, *, mesh: Mesh, batch_size: int, progress: Wrap
    ) -> dict[str, float | int | str]:
        """Measures what came back of the rows of the reference.

        Args:
            rows: Reconstructions of all of them in their order, ``[N, *event]``.
            mesh: Where features are computed.
            batch_size: Images at a time.
            progress: ``(items, total, label) -> items``, to show progress.

        Returns:
            Numbers by name, and their protocol. ``psnr`` is the mean over images of their peak
            signal-to-noise ratios in decibels, of which that of an image that is met exactly
            counts as 100.
        """
        reference = self._reference
        result: dict[str, float | int | str] = {
            "num_reconstructions": len(rows),
            "reference": reference.description,
        }
        if "rfd" in self.metrics:
            assert self._features is not None
            made, _ = self._extract(
                lambda start, stop: rows[start:stop],
                len(rows),
                mesh,
                batch_size,
                progress,
                "features of reconstructions",
            )
            undefined = self._undefined("rfd", made)
            real = self._features_of_reference(mesh, batch_size, progress)
            name = self._name("rfid", "rfd")
            result |= undefined or {name: evaluation.frechet_distance(real, made)}
            result["features"] = self._features.description
        if "psnr" in self.metrics:
            assert reference.num_levels is not None
            total = 0.0
            for start in range(0, len(rows), batch_size):
                stop = min(start + batch_size, len(rows))
                off = reference.rows(start, stop) - rows[start:stop].astype(np.float64)
                shares = np.square(off / (reference.num_levels - 1)).reshape(stop - start, -1)
                total += float(-10.0 * np.log10(np.maximum(shares.mean(1), 1e-10)).sum())
            result["psnr"] = total / len(rows)
        return result

    def reference_statistics(
        self, *, mesh: Mesh, batch_size: int, progress: Wrap
    ) -> FeatureStatistics:
        """Mean and covariance of the features of the reference.

        Args:
            mesh: Where features are computed.
            batch_size: Images at a time.
            progress: ``(items, total, label) -> items``, to show progress.

        Returns:
            The statistics, as :func:`~genjax.training.feature_statistics.write_statistics` takes
            them.

        Raises:
            ValueError: If there are no features.
        """
        if self._features is None:
            raise ValueError("statistics are of features: name a network in eval.features")
        mean, covariance = evaluation.moments(
            self._features_of_reference(mesh, batch_size, progress)
        )
        return FeatureStatistics(
            mean, covariance, self._reference.description, self._features.description
        )

    def _features_of_reference(self, mesh: Mesh, batch_size: int, progress: Wrap) -> np.ndarray:
        if self._reference_features is None:
            self._reference_features, _ = self._extract(
                self._reference.rows,
                self._reference.count,
                mesh,
                batch_size,
                progress,
                "features of data",
            )
        return self._reference_features

    def _undefined(self, metric: str, rows: np.ndarray) -> dict[str, float | int | str]:
        """NaN for the numbers of a metric, and how many rows are to blame; nothing if none is."""
        finite = np.isfinite(rows.reshape(len(rows), -1)).all(1)
        if finite.all():
            return {}
        count = int((~finite).sum())
        names = self._names_of(metric)
        return {
            **dict.fromkeys(names, float("nan")),
            **{f"{name}_num_nonfinite": count for name in names},
        }

    def _of_features(
        self,
        samples: np.ndarray,
        labels: np.ndarray | None,
        mesh: Mesh,
        batch_size: int,
        progress: Wrap,
    ) -> dict[str, float | int | str]:
        assert self._features is not None
        fake, logits = self._extract(
            lambda start, stop: samples[start:stop],
            len(samples),
            mesh,
            batch_size,
            progress,
            "features of samples",
        )
        if any(map(self._compares, self.metrics)):
            real = self._features_of_reference(mesh, batch_size, progress)
        result: dict[str, float | int | str] = {}
        name = self._name
        for metric in self.metrics:
            rows = logits if metric in _OF_LOGITS else fake
            if metric in (*_OF_FEATURES, *_OF_LOGITS) and (
                undefined := self._undefined(metric, rows)
            ):
                result |= undefined
            elif metric == "fd" and self._statistics is not None:
                result[name("fid", "fd")] = evaluation.frechet_distance_of_moments(
                    self._statistics.mean, self._statistics.covariance, *evaluation.moments(fake)
                )
            elif metric == "fd":
                result[name("fid", "fd")] = evaluation.frechet_distance(real, fake)
            elif metric == "kid":
                value, stderr = evaluation.kernel_distance(real, fake)
                result |= {name("kid", "kd"): value, f"{name('kid', 'kd')}_stderr": stderr}
            elif metric == "precision_recall":
                precision, recall = evaluation.precision_and_recall(real, fake, k=3)
                result |= {name("precision"): precision, name("recall"): recall}
                result["precision_recall_k"] = 3
            elif metric == "density_coverage":
                density, coverage = evaluation.density_and_coverage(real, fake, k=5)
                result |= {name("density"): density, name("coverage"): coverage}
                result["density_coverage_k"] = 5
            elif metric == "inception_score":
                value, spread = evaluation.inception_score(logits, num_splits=10)
                called = name("inception_score", "classifier_score")
                result |= {called: value, f"{called}_std": spread, "score_splits": 10}
            elif metric == "class_modes":
                found = evaluation.class_coverage(logits.argmax(1), logits.shape[1])
                result |= {name(of): value for of, value in found.items()}
            elif metric == "label_accuracy":
                if labels is None:
                    raise ValueError("the metric 'label_accuracy' needs a conditional model")
                result[name("label_accuracy")] = float((logits.argmax(1) == labels).mean())
        result["features"] = self._features.description
        return result

    def _extract(
        self,
        images: Callable[[int, int], np.ndarray],
        count: int,
        mesh: Mesh,
        batch_size: int,
        progress: Wrap,
        label: str,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of all images, in batches spread over the mesh."""
        assert self._features is not None
        if self._apply is None:
            self._apply = jax.jit(self._features.apply, out_shardings=meshes.replicated(mesh))
        parts = []
        starts = range(0, count, batch_size)
        size = meshes.filled_up(batch_size, mesh)
        for start in progress(starts, len(starts), label):
            rows = images(start, min(start + batch_size, count))
            # Filled up with the last row, so that all batches have one size and compile once.
            filled = rows[np.minimum(np.arange(size), len(rows) - 1)]
            batch = meshes.put(filled, meshes.by_row(mesh))
            found = jax.device_get(self._apply(self._features.variables, batch))
            parts.append([array[: len(rows)] for array in found])
        features, logits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return features, logits
