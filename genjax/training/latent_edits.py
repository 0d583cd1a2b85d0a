"""Edits by arithmetic of latents: attributes added and taken away, and maps of two directions."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from genjax import evaluation
from genjax.diffusion.directions import (
    Components,
    principal_components,
    projected_off,
    random_direction,
)
from genjax.training.edits import Context, OfRows, check_strengths, known_numbers
from genjax.training.experiment import Edit, Edited

_MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "thickness": evaluation.thickness,
    "slant": evaluation.slant,
}


@dataclasses.dataclass(frozen=True)
class Flat:
    """Latents of rows as vectors.

    Attributes:
        vectors: ``[N, D]``, float32: all latents of a row.
        tree: Structure of the latents.
        shapes: Shapes of its leaves, of one row.
    """

    vectors: np.ndarray
    tree: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, latents: Any) -> "Flat":
        """Those of a tree of arrays ``[N, ...]``.

        Raises:
            ValueError: If they are codes, between which there is nothing.
        """
        leaves, tree = jax.tree.flatten(jax.tree.map(np.asarray, latents))
        if not all(np.issubdtype(leaf.dtype, np.floating) for leaf in leaves):
            raise ValueError("latents are codes, which cannot be added: take a model whose are not")
        rows = [leaf.reshape(len(leaf), -1).astype(np.float32) for leaf in leaves]
        return cls(np.concatenate(rows, axis=1), tree, tuple(leaf.shape[1:] for leaf in leaves))

    def unflatten(self, vectors: np.ndarray) -> Any:
        """A tree of vectors ``[N, D]``."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = np.split(np.asarray(vectors, np.float32), np.cumsum(sizes)[:-1], axis=1)
        leaves = [p.reshape(-1, *shape) for p, shape in zip(parts, self.shapes, strict=True)]
        return jax.tree.unflatten(self.tree, leaves)


def attribute_direction(
    vectors: np.ndarray, values: np.ndarray, labels: np.ndarray | None = None
) -> np.ndarray:
    """What takes the mean latent of rows that have little of an attribute to that of those with it.

    The lowest third of values is compared with the highest; where all values are one of two, one
    with the other. With labels the two are compared within each class, and the classes' differences
    averaged, so that what tells classes apart is not part of the direction.

    Args:
        vectors: Latents, ``[N, D]``.
        values: The attribute of each row, ``[N]``.
        labels: Class ids, ``[N]``, or None.

    Returns:
        The direction, ``[D]``, float64.

    Raises:
        ValueError: If no class has rows with little and with much of the attribute.

    References:
        White, Sampling Generative Networks, arXiv:1609.04468, section 3.4, for balanced vectors.
    """
    kept = np.isfinite(values)
    vectors, values = np.asarray(vectors, np.float64)[kept], np.asarray(values, np.float64)[kept]
    groups = np.zeros(len(values), int) if labels is None else np.asarray(labels)[kept]
    differences = []
    for group in np.unique(groups):
        rows, own = vectors[groups == group], values[groups == group]
        if len(own) < 2:
            continue
        low, high = np.quantile(own, [1 / 3, 2 / 3])
        if own.min() == own.max():
            continue
        # Where most rows have one value, the others are compared with these.
        if low < high:
            little, much = own <= low, own >= high
        elif high > own.min():
            little, much = own < high, own >= high
        else:
            little, much = own <= low, own > low
        differences.append(rows[much].mean(0) - rows[little].mean(0))
    if not differences:
        raise ValueError("the attribute is the same in all rows: there is no direction of it")
    return np.asarray(np.mean(differences, axis=0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attribute(OfRows):
    """An attribute is added to latents of rows of the test split, and taken away.

    Attributes:
        attribute: ``"thickness"`` or ``"slant"`` of strokes, or a feature of the data, such as
            ``label``.
        num_rows: Rows that are edited: the first of the test split.
        num_found: Rows of the training split whose latents say where the direction is.
        strengths: Factors of the direction, which leads from the lowest third to the highest.
        apart_from: Attributes in whose directions nothing is changed.
        within_classes: Whether rows are compared within their classes, where the data has any.
        value: For a feature with more than two values, the one that is compared with all others.
        num_random: Random directions of equal length that are measured beside it.
        num_shown: Rows that a picture shows.
        seed: Seed of the random directions.
    """

    attribute: str = "thickness"
    num_rows: int = 64
    num_found: int = 2000
    strengths: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    apart_from: Sequence[str] = ()
    within_classes: bool = True
    value: int | None = None
    num_random: int = 2
    num_shown: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strengths(self.strengths, least=2)
        if self.num_found < 2 or self.num_shown < 1 or self.num_random < 0:
            raise ValueError(
                "expected num_found of at least 2, num_shown of at least 1 and num_random of at "
                f"least 0, got {self.num_found}, {self.num_shown} and {self.num_random}"
            )
        if self.attribute in self.apart_from:
            raise ValueError(f"apart_from has the attribute itself, {self.attribute!r}")

    def apply(self, context: Context) -> Edited:
        """Does it."""
        direction = self._direction(context)
        x, reads = context.test_rows(self.num_rows)
        latents = Flat.of(context.editor.latents(x, **reads))

        def moved(direction: np.ndarray) -> np.ndarray:
            return np.stack(
                [
                    context.editor.rows(latents.unflatten(latents.vectors + a * direction), **reads)
                    for a in self.strengths
                ]
            )

        rows = moved(direction)
        numbers = self._measured(context, rows)
        drawn = [
            self._measured(context, moved(random_direction(self.seed + i, direction[None])[0]))
            for i in range(self.num_random)
        ]
        for name in drawn[0] if drawn else ():
            numbers[f"random_{name}"] = float(np.mean([abs(one[name]) for one in drawn]))
        arrays = {"x": x, "rows": rows, "direction": direction.astype(np.float32)}
        arrays["strengths"] = np.array(self.strengths)
        shown = [one[: self.num_shown] for one in [x, *rows]]
        return Edited({self.attribute: context.picture(shown)}, arrays, numbers)

    def _direction(self, context: Context) -> np.ndarray:
        found, reads = context.train_rows(self.num_found)
        vectors = Flat.of(context.editor.latents(found["x"], **reads)).vectors
        labels = found.get("label") if self.within_classes else None

        def of(name: str) -> np.ndarray:
            values = self._values(name, found, context)
            # Within a class there is nothing to compare classes by.
            own = None if name == "label" else labels
            return attribute_direction(vectors, values, own)

        direction = of(self.attribute)[None]
        if self.apart_from:
            direction = projected_off(direction, *(of(name)[None] for name in self.apart_from))
        return np.asarray(direction[0])

    def _values(self, name: str, rows: dict[str, np.ndarray], context: Context) -> np.ndarray:
        """An attribute of rows, ``[N]``."""
        if name in rows and name != "x":
            values = rows[name]
            if values.ndim != 1:
                raise ValueError(
                    f"the feature {name!r} has shape {values.shape[1:]}, not one value"
                )
            if name == self.attribute and self.value is not None:
                return (values == self.value).astype(np.float64)
            if name == "label":
                raise ValueError("attribute 'label' needs a value: the class that is led to")
            return values.astype(np.float64)
        if name not in _MEASURES:
            known = sorted({*_MEASURES, *(set(rows) - {"x"})})
            raise ValueError(f"unknown attribute {name!r}; valid: {', '.join(known)}")
        if rows["x"].ndim != 4 or not context.num_levels:
            raise ValueError(
                f"{name} is of grey images, and an example has shape {rows['x'].shape[1:]}"
            )
        return _MEASURES[name](rows["x"])

    def _measured(self, context: Context, rows: np.ndarray) -> dict[str, float]:
        """How rows ``[A, N, *event]`` follow the strength."""
        strengths = np.array(self.strengths)
        plain = rows[int(np.argmin(np.abs(strengths)))]
        ends = rows[[int(strengths.argmin()), int(strengths.argmax())]]
        found: dict[str, float | None] = {
            "rms": float(np.mean([context.rms(plain, end) for end in ends]))
        }
        if rows.ndim == 5 and context.num_levels:
            for name, measure in _MEASURES.items():
                values = np.stack([measure(one) for one in rows])
                found[f"{name}_rank"] = evaluation.rank_correlation(strengths, values)
                if name == self.attribute:
                    found |= {
                        f"{name}_{a:g}": float(np.nanmean(own))
                        for a, own in zip(strengths, values, strict=True)
                    }
        if context.classify is not None:
            found["label_kept"] = float(np.mean([context.kept(plain, end) for end in ends]))
            if self.attribute == "label":
                for a, one in zip(strengths, rows, strict=True):
                    found[f"share_{a:g}"] = float((context.classify(one) == self.value).mean())
        return known_numbers(**found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentMap(Edit):
    """What latents of a plane stand for: that of the two principal components of training rows.

    Attributes:
        num_found: Rows of the training split whose latents say where the plane is.
        num_side: Places along a side.
        reach: Half the side, in standard deviations of each component.
        label: Class of all places, of a model that takes labels.
    """

    num_found: int = 2000
    num_side: int = 12
    reach: float = 2.0
    label: int | None = None

    def __post_init__(self) -> None:
        if self.num_found < 3 or self.num_side < 2:
            raise ValueError(
                "expected num_found of at least 3 and num_side of at least 2, got "
                f"{self.num_found} and {self.num_side}"
            )
        if not self.reach > 0.0:
            raise ValueError(f"reach must be positive, got {self.reach}")

    def apply(self, context: Context) -> Edited:
        """Does it."""
        found, reads = context.train_rows(self.num_found)
        latents = Flat.of(context.editor.latents(found["x"], **reads))
        if latents.vectors.shape[1] < 2:
            raise ValueError("a map needs latents of at least two entries")
        plane: Components = principal_components(latents.vectors[:, None], 2)
        axes = np.stack([plane.scaled(i)[0] for i in range(2)])
        side = np.linspace(-self.reach, self.reach, self.num_side)
        # Rows of the picture from top to bottom: the second component falls.
        places = np.stack(np.meshgrid(side, side[::-1]), axis=-1).reshape(-1, 2)
        centre = latents.vectors.mean(0)
        given: dict[str, Any] = {}
        if "label" in reads:
            given["label"] = 0 if self.label is None else self.label
        rows = context.editor.rows(latents.unflatten(centre + places @ axes), **given)
        shares = {f"share_{i}": float(plane.share[i].mean()) for i in range(2)}
        picture = context.picture([rows]) if rows.ndim != 4 else context.grid(rows, self.num_side)
        arrays = {"rows": rows, "places": places, "axes": axes.astype(np.float32)}
        points = (latents.vectors - centre) @ np.linalg.pinv(axes)
        arrays["points"] = points.astype(np.float32)
        if "label" in found:
            arrays["label"] = found["label"]
        return Edited({"": picture}, arrays, shares)
