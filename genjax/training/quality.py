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

_OF_FEATURES = ("fd", "kid", "precision_recall", "density_coverage")
_OF_LOGITS = ("inception_score", "label_accuracy")
_OF_POINTS = ("w1", "w2", "sliced_w2")
METRICS = (*_OF_FEATURES, *_OF_LOGITS, *_OF_POINTS, "modes")


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
        rows: Data rows, ``[N, *event]``.
        description: Which rows these are, for the protocol.
        mixture: Centres ``[K, D]`` and standard deviation, if the data is a known mixture.
    """

    rows: np.ndarray
    description: str
    mixture: tuple[np.ndarray, float] | None = None


class SampleQuality:
    """Measures samples; features of the reference are computed once.

    Args:
        metrics: Of :data:`METRICS`. ``fd`` is the Fréchet distance of features, ``kid`` the kernel
            distance, ``inception_score`` and ``label_accuracy`` (the share of conditional samples
            classified as their label) look at the classifier's logits; ``w1``, ``w2`` and
            ``sliced_w2`` at the points themselves; ``modes`` at a known mixture.
        num_samples: Samples to draw.
        reference: What they are compared with.
        features: Needed by the first six.

    Raises:
        ValueError: If a metric is unknown or lacks what it needs.
    """

    def __init__(
        self,
        metrics: Sequence[str],
        num_samples: int,
        reference: Reference,
        features: Features | None,
    ):
        for metric in metrics:
            if metric not in METRICS:
                raise ValueError(f"metrics must be among {', '.join(METRICS)}, got {metric!r}")
            if features is None and metric in (*_OF_FEATURES, *_OF_LOGITS):
                raise ValueError(f"the metric {metric!r} needs features")
            if metric == "modes" and reference.mixture is None:
                raise ValueError("the metric 'modes' needs data that is a known mixture, as ring")
            if metric in _OF_POINTS and reference.rows.ndim != 2:
                raise ValueError(f"the metric {metric!r} needs points, not images")
        self.metrics = tuple(metrics)
        self.num_samples = num_samples
        self._reference = reference
        self._features = features
        self._reference_features: np.ndarray | None = None
        self._apply: Any = None

    @property
    def names(self) -> list[str]:
        """Names of the numbers that :meth:`measure` gives."""
        own = {
            "fd": [self._name("fid", "fd")],
            "kid": [self._name("kid", "kd")],
            "precision_recall": [self._name("precision"), self._name("recall")],
            "density_coverage": [self._name("density"), self._name("coverage")],
            "inception_score": [self._name("inception_score", "classifier_score")],
            "label_accuracy": [self._name("label_accuracy")],
            "modes": ["modes_covered", "high_quality", "mode_kl"],
        }
        return [name for metric in self.metrics for name in own.get(metric, [metric])]

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
            network, but for Inception's.
        """
        result: dict[str, float | int | str] = {}
        if self._features is not None:
            result |= self._of_features(samples, labels, mesh, batch_size, progress)
        points = samples.reshape(len(samples), -1)
        for metric in self.metrics:
            if metric == "sliced_w2":
                result[metric] = evaluation.sliced_wasserstein_distance(
                    points, self._reference.rows
                )
            elif metric in _OF_POINTS:
                result[metric] = evaluation.wasserstein_distance(
                    points, self._reference.rows, p=int(metric[1:])
                )
        if "modes" in self.metrics and self._reference.mixture is not None:
            result |= evaluation.mode_coverage(points, *self._reference.mixture)
        result["num_samples"] = len(samples)
        result["reference"] = self._reference.description
        return result

    def _of_features(
        self,
        samples: np.ndarray,
        labels: np.ndarray | None,
        mesh: Mesh,
        batch_size: int,
        progress: Wrap,
    ) -> dict[str, float | int | str]:
        assert self._features is not None
        fake, logits = self._extract(samples, mesh, batch_size, progress, "features of samples")
        if self._reference_features is None:
            self._reference_features, _ = self._extract(
                self._reference.rows, mesh, batch_size, progress, "features of data"
            )
        real = self._reference_features
        result: dict[str, float | int | str] = {}
        name = self._name
        for metric in self.metrics:
            if metric == "fd":
                result[name("fid", "fd")] = evaluation.frechet_distance(real, fake)
            elif metric == "kid":
                value, stderr = evaluation.kernel_distance(real, fake)
                result |= {name("kid", "kd"): value, f"{name('kid', 'kd')}_stderr": stderr}
            elif metric == "precision_recall":
                precision, recall = evaluation.precision_and_recall(real, fake)
                result |= {name("precision"): precision, name("recall"): recall}
            elif metric == "density_coverage":
                density, coverage = evaluation.density_and_coverage(real, fake)
                result |= {name("density"): density, name("coverage"): coverage}
            elif metric == "inception_score":
                value, spread = evaluation.inception_score(logits)
                called = name("inception_score", "classifier_score")
                result |= {called: value, f"{called}_std": spread}
            elif metric == "label_accuracy":
                if labels is None:
                    raise ValueError("the metric 'label_accuracy' needs a conditional model")
                result[name("label_accuracy")] = float((logits.argmax(1) == labels).mean())
        result["features"] = self._features.description
        return result

    def _extract(
        self, images: np.ndarray, mesh: Mesh, batch_size: int, progress: Wrap, label: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits of all images, in batches spread over the mesh."""
        assert self._features is not None
        if self._apply is None:
            self._apply = jax.jit(self._features.apply, out_shardings=meshes.replicated(mesh))
        parts = []
        starts = range(0, len(images), batch_size)
        for start in progress(starts, len(starts), label):
            rows = np.minimum(np.arange(start, start + batch_size), len(images) - 1)
            batch = jax.device_put(images[rows], meshes.by_row(mesh))
            parts.append(jax.device_get(self._apply(self._features.variables, batch)))
        features, logits = (
            np.concatenate(arrays)[: len(images)] for arrays in zip(*parts, strict=True)
        )
        return features, logits
