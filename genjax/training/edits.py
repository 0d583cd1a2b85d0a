"""Edits as values: what ``--mode=edit`` does, and what it shows and measures of it."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from genjax import evaluation
from genjax.data import DataSet
from genjax.diffusion.directions import (
    mean_difference,
    principal_components,
    random_direction,
)
from genjax.training.editor import Editor, Filling, Recorded
from genjax.training.experiment import Edit, Edited, Experiment
from genjax.training.pictures import image_grid, scatter


class EditError(ValueError):
    """The model or the data does not fit an edit; the message is one line."""


Classify: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Rows ``[N, *event]`` to class ids ``[N]``."""
Part = Literal["left", "right", "top", "bottom", "center"]


@dataclasses.dataclass(frozen=True)
class Context:
    """What an edit is done with.

    Attributes:
        editor: The editor of the trained model.
        experiment: The experiment.
        classify: The classifier of ``eval.features``; None where there is none.
    """

    editor: Editor
    experiment: Experiment
    classify: Classify | None = None

    @property
    def num_levels(self) -> int | None:
        """Number of grey levels of the data, if it has any."""
        return self.experiment.train_data.num_levels

    def test_rows(self, count: int) -> tuple[np.ndarray, dict[str, Any]]:
        """The first rows of the test split, and what the family reads besides."""
        rows, reads = self._first_rows(self.experiment.test_data, count)
        return rows["x"], reads

    def train_rows(self, count: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The first rows of the training split with all features, and what the family reads."""
        return self._first_rows(self.experiment.train_data, count)

    def _first_rows(
        self, split: DataSet, count: int
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        rows = dict(split.source.rows(np.arange(min(count, len(split.source)))))
        return rows, {name: rows[name] for name in self.experiment.family.reads if name in rows}

    def kept(self, before: np.ndarray, after: np.ndarray) -> float | None:
        """The share of rows whose class the classifier says to be what it was, if there is one."""
        if self.classify is None:
            return None
        return float((self.classify(before) == self.classify(after)).mean())

    def rms(self, before: np.ndarray, after: np.ndarray) -> float:
        """Root of the mean squared difference: in shares of the range of grey levels, if any."""
        difference = after.astype(np.float64) - before
        return float(np.sqrt(np.mean(difference**2))) / ((self.num_levels or 2) - 1)

    def picture(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Rows of pictures, one for each example; points side by side."""
        if columns[0].ndim == 4:
            tiles = np.stack(columns, axis=1)
            flat = tiles.reshape(-1, *tiles.shape[2:])
            return image_grid(flat, self.num_levels, columns=len(columns))
        return scatter(np.stack([c.reshape(len(c), -1)[:, :2] for c in columns]))

    def grid(self, images: np.ndarray, columns: int) -> np.ndarray:
        """Images row by row."""
        return image_grid(images, self.num_levels, columns=columns)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfRows(Edit, abc.ABC):
    """What edits of rows of the test split share.

    Attributes:
        num_rows: Rows that are edited: the first of the test split.
        seed: Seed of the draws.
    """

    num_rows: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise ValueError(f"num_rows must be at least 1, got {self.num_rows}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interpolate(OfRows):
    """Each row of the test split becomes the next, through latents of both.

    Attributes:
        num_rows: Rows that are edited: the first of the test split.
        seed: Not read: latents and rows have one way between them.
        num_frames: Places on each way, its ends included.
    """

    num_frames: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_frames < 2:
            raise ValueError(f"num_frames must be at least 2, got {self.num_frames}")

    def apply(self, context: Context) -> Edited:
        """Does it."""
        x, reads = context.test_rows(self.num_rows + 1)
        if len(x) < 2:
            raise ValueError("an interpolation needs two rows of the test split")
        # A way has one label: that of the row it begins at.
        of_first = {name: values[:-1] for name, values in reads.items()}
        ways = context.editor.interpolate(x[:-1], x[1:], self.num_frames, **of_first)
        numbers = {"round_trip_rms": context.rms(x[:-1], ways[:, 0])}
        picture = context.picture(list(np.swapaxes(ways, 0, 1)))
        return Edited({"": picture}, {"x": x, "ways": ways}, numbers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vary(OfRows):
    """Noise is added to rows of the test split and taken off again.

    Attributes:
        num_rows: Rows that are edited: the first of the test split.
        seed: Seed of the noise.
        strengths: Times up to which noise is added, in (0, 1].
    """

    strengths: Sequence[float] = (0.2, 0.4, 0.6, 0.8)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strengths(self.strengths)
        if not all(0.0 < strength <= 1.0 for strength in self.strengths):
            raise ValueError(f"strengths must be above 0 and at most 1, got {self.strengths}")

    def apply(self, context: Context) -> Edited:
        """Does it."""
        x, reads = context.test_rows(self.num_rows)
        made, numbers = [], {}
        for strength in self.strengths:
            made.append(context.editor.vary(x, strength, seed=self.seed, **reads))
            numbers[f"rms_{strength:g}"] = context.rms(x, made[-1])
            numbers |= known_numbers(**{f"label_kept_{strength:g}": context.kept(x, made[-1])})
        arrays = {"x": x, "variations": np.stack(made), "strengths": np.array(self.strengths)}
        return Edited({"": context.picture([x, *made])}, arrays, numbers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inpaint(OfRows):
    """A part of images of the test split is filled in.

    Attributes:
        num_rows: Rows that are edited: the first of the test split.
        seed: Seed of the noise.
        part: The part that is filled in: a half, or half of both sides in the middle.
        method: ``"resampling"`` (RePaint) or ``"replacement"``: see
            :meth:`~genjax.training.editor.Editor.inpaint`.
        jump_length: Steps between repetitions.
        num_resamplings: How often each stretch of steps is taken.
    """

    part: Part = "right"
    method: Filling = "resampling"
    jump_length: int = 10
    num_resamplings: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part not in ("left", "right", "top", "bottom", "center"):
            raise ValueError(f"part must be left, right, top, bottom or center, got {self.part!r}")
        if self.method not in ("resampling", "replacement"):
            raise ValueError(f"method must be resampling or replacement, got {self.method!r}")

    def apply(self, context: Context) -> Edited:
        """Does it."""
        x, reads = context.test_rows(self.num_rows)
        if x.ndim != 4:
            raise ValueError(
                f"inpaint fills in a part of images, and an example has shape {x.shape[1:]}: call "
                "edit.inpaint with a mask of your own"
            )
        known = ~part_of(self.part, x.shape[1:3])
        filled = context.editor.inpaint(
            x,
            known,
            method=self.method,
            jump_length=self.jump_length,
            num_resamplings=self.num_resamplings,
            seed=self.seed,
            **reads,
        )
        numbers = {
            "num_changed_known": float((filled != x)[:, known].sum()),
            "unknown_rms": context.rms(x[:, ~known], filled[:, ~known]),
            **known_numbers(label_kept=context.kept(x, filled)),
        }
        seen = np.where(known[..., None], x, np.zeros((), x.dtype))
        arrays = {"x": x, "known": known, "filled": filled}
        return Edited({"": context.picture([x, seen, filled])}, arrays, numbers)


def part_of(part: Part, size: tuple[int, ...]) -> np.ndarray:
    """A part of images, as booleans ``[H, W]``.

    Example:
        >>> part_of("right", (1, 4))
        array([[False, False,  True,  True]])
    """
    height, width = size
    row, column = np.mgrid[:height, :width]
    found = {
        "left": column < width // 2,
        "right": column >= width // 2,
        "top": row < height // 2,
        "bottom": row >= height // 2,
        "center": (abs(2 * row + 1 - height) <= height // 2)
        & (abs(2 * column + 1 - width) <= width // 2),
    }
    return found[part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfMiddle(Edit, abc.ABC):
    """What edits in the middle of the network share.

    Attributes:
        num_samples: Samples whose activations say where directions are.
        num_rows: Samples that are edited and measured.
        num_shown: Those of them that a picture shows.
        strengths: Factors of a direction.
        num_random: Random directions of equal length that are measured beside each.
        asymmetric: Whether a direction changes the estimate of the data alone: see
            :func:`~genjax.diffusion.bottleneck.steered`.
        seed: Seed of the samples that are edited; those that are recorded have the one after it.
    """

    num_samples: int = 256
    num_rows: int = 32
    num_shown: int = 8
    strengths: Sequence[float] = (-4.0, -2.0, 0.0, 2.0, 4.0)
    num_random: int = 2
    asymmetric: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 2), ("num_rows", 1), ("num_shown", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.num_random < 0:
            raise ValueError(f"num_random must not be negative, got {self.num_random}")
        check_strengths(self.strengths, least=2)

    def recorded(self, context: Context, **reads: Any) -> Recorded:
        """Samples and their activations, of another seed than those that are edited."""
        return context.editor.record(self.num_samples, seed=self.seed + 1, **reads)

    def steered(self, context: Context, direction: np.ndarray, **reads: Any) -> np.ndarray:
        """The samples at each strength, ``[A, N, *event]``."""
        return context.editor.steer(
            direction,
            self.strengths,
            self.num_rows,
            asymmetric=self.asymmetric,
            seed=self.seed,
            **reads,
        )

    def measured(self, context: Context, rows: np.ndarray) -> dict[str, float]:
        """How samples follow the strength: of images thickness and slant, and whether they last."""
        found: dict[str, float | None] = {}
        plain = rows[int(np.argmin(np.abs(self.strengths)))]
        ends = rows[[int(np.argmin(self.strengths)), int(np.argmax(self.strengths))]]
        found["rms"] = float(np.mean([context.rms(plain, end) for end in ends]))
        if rows.ndim == 5 and context.num_levels:
            for name, measure in (
                ("thickness", evaluation.thickness),
                ("slant", evaluation.slant),
            ):
                values = np.stack([measure(one) for one in rows])
                found[f"{name}_rank"] = evaluation.rank_correlation(
                    np.array(self.strengths), values
                )
        if context.classify is not None:
            found["label_kept"] = float(np.mean([context.kept(plain, end) for end in ends]))
        return known_numbers(**found)

    def random(
        self,
        context: Context,
        like: np.ndarray,
        measure: Callable[[np.ndarray], dict[str, float]],
        **reads: Any,
    ) -> dict[str, float]:
        """Means of the sizes of what is measured along random directions."""
        drawn = [
            measure(self.steered(context, random_direction(self.seed + i, like), **reads))
            for i in range(self.num_random)
        ]
        return {
            f"random_{name}": float(np.mean([abs(one[name]) for one in drawn]))
            for name in (drawn[0] if drawn else {})
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Components(OfMiddle):
    """Samples along the principal components of the activations in the middle of the network.

    Strengths are in standard deviations.

    Attributes:
        num_components: Components, those of largest variance.
        label: Class of all samples, of a model that takes labels; None for all classes in turn,
            where components are of what tells these apart, too.
        num_samples: Samples whose activations say where directions are.
        num_rows: Samples that are edited and measured.
        num_shown: Those of them that a picture shows.
        strengths: Factors of a direction, in standard deviations.
        num_random: Random directions of equal length that are measured beside the first component.
        asymmetric: Whether a direction changes the estimate of the data alone: see
            :func:`~genjax.diffusion.bottleneck.steered`.
        seed: Seed of the samples that are edited; those that are recorded have the one after it.
    """

    num_components: int = 4
    label: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.num_components < self.num_samples:
            raise ValueError(
                f"num_components must be at least 1 and below the {self.num_samples} num_samples, "
                f"got {self.num_components}"
            )

    def apply(self, context: Context) -> Edited:
        """Does it."""
        reads = {} if self.label is None else {"label": self.label}
        found = principal_components(self.recorded(context, **reads).h, self.num_components)
        pictures, arrays, numbers = {}, {}, {}
        for i in range(self.num_components):
            rows = self.steered(context, found.scaled(i), **reads)
            pictures[f"component_{i}"] = context.picture([r[: self.num_shown] for r in rows])
            arrays[f"component_{i}"] = rows
            numbers[f"share_{i}"] = float(found.share[i].mean())
            numbers |= {f"{n}_{i}": v for n, v in self.measured(context, rows).items()}
        measure = functools.partial(self.measured, context)
        numbers |= self.random(context, found.scaled(0), measure, **reads)
        arrays |= {
            "directions": found.directions.astype(np.float32),
            "std": found.std,
            "share": found.share,
            "strengths": np.array(self.strengths),
        }
        return Edited(pictures, arrays, numbers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassDirection(OfMiddle):
    """Samples of one class along the way from its mean activation to that of another.

    Classes of samples are those that were asked for, of a model that takes labels, and otherwise
    what the classifier of ``eval.features`` says.

    Attributes:
        from_class: The class of the samples.
        to_class: The class they are led to.
        num_samples: Samples whose activations say where directions are.
        num_rows: Samples that are edited and measured.
        num_shown: Those of them that a picture shows.
        strengths: Factors of the difference of the means.
        num_random: Random directions of equal length that are measured beside it.
        asymmetric: Whether a direction changes the estimate of the data alone: see
            :func:`~genjax.diffusion.bottleneck.steered`.
        seed: Seed of the samples that are edited; those that are recorded have the one after it.
    """

    from_class: int = 0
    to_class: int = 1
    strengths: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.from_class == self.to_class or min(self.from_class, self.to_class) < 0:
            raise ValueError(
                "from_class and to_class must be two classes, got "
                f"{self.from_class} and {self.to_class}"
            )

    def apply(self, context: Context) -> Edited:
        """Does it."""
        asked = "label" in context.experiment.family.reads
        pair = np.array([self.from_class, self.to_class], np.int32)
        reads: dict[str, Any] = {}
        if asked:
            reads["label"] = pair[np.arange(self.num_samples) % 2]
        classify = context.classify
        if not asked and classify is None:
            raise ValueError(
                "class_direction needs classes of samples: a model that takes labels "
                "(model.num_classes), or a classifier in eval.features"
            )
        seen = self.recorded(context, **reads)
        labels = seen.reads["label"] if classify is None or asked else classify(seen.rows)
        direction = mean_difference(seen.h, labels, *map(int, pair))
        # Samples of the class: those asked for, or all, of which those count that are of it.
        reads = {"label": self.from_class} if asked else {}

        def measure(rows: np.ndarray) -> dict[str, float]:
            found = self.measured(context, rows)
            if classify is not None:
                said = np.stack([classify(one) for one in rows])
                own = said[int(np.argmin(np.abs(self.strengths)))] == self.from_class
                for strength, classes in zip(self.strengths, said, strict=True):
                    share = (classes[own] == self.to_class).mean() if own.any() else np.nan
                    found[f"flipped_{strength:g}"] = float(share)
            return found

        rows = self.steered(context, direction, **reads)
        numbers = measure(rows) | self.random(context, direction, measure, **reads)
        picture = context.picture([r[: self.num_shown] for r in rows])
        arrays = {
            "rows": rows,
            "direction": direction.astype(np.float32),
            "strengths": np.array(self.strengths),
        }
        return Edited({"": picture}, arrays, numbers)


def check_strengths(strengths: Sequence[float], *, least: int = 1) -> None:
    """Refuses too few strengths, and the same one twice.

    Args:
        strengths: The strengths.
        least: How many there must be.

    Raises:
        ValueError: If there are fewer, or two alike.
    """
    if len(strengths) < least or len(set(strengths)) < len(strengths):
        raise ValueError(f"strengths must be at least {least} different numbers, got {strengths}")


def known_numbers(**numbers: float | None) -> dict[str, float]:
    """Those of some numbers that are known."""
    return {name: value for name, value in numbers.items() if value is not None}
