"""Transforms of examples: prepared once for all, or drawn anew in each step of training.

A transform with ``prepare`` is a function of the example alone; training, evaluation and pictures
see its result. One with ``augment`` is drawn for each row of each step of training, from a key of
seed, step and row, so that a resumed run sees what an undisturbed one does; it keeps the shape, is
traced into the compiled step, and costs no worker process. One with ``pair`` makes the feature
``source`` of ``x`` (:mod:`genjax.data.pairing`); what comes after it, and moves pixels, moves those
of both.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from genjax.data.features import ArraySource, DataSet, Source, column
from genjax.data.pairing import PAIRED, Follows, Pairing
from genjax.data.resizing import Method, resized


@runtime_checkable
class Preparation(Protocol):
    """A transform without randomness."""

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """The transformed rows ``[N, *event']`` of rows ``[N, *event]``, of the same type."""
        ...


@runtime_checkable
class Augmentation(Protocol):
    """A random transform of training."""

    def augment(self, x: Array, key: PRNGKeyArray) -> Array:
        """The transformed example, of the same shape and type as ``x`` ``[*event]``. Traced."""
        ...


Transform: TypeAlias = Preparation | Augmentation | Pairing
"""What ``data.transforms`` lists: one of the three.

Of the first two, a class attribute ``paired`` (``genjax.data.pairing.Follows``) says what
becomes of features that belong to ``x`` pixel by pixel; it is needed where there are any."""


def _check_image(x: Any, name: str) -> None:
    if len(x.shape) < 3:
        raise ValueError(f"{name} is for images [H, W, C], got examples of shape {x.shape}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HorizontalFlip:
    """Mirrors images left to right.

    Attributes:
        probability: Share of the rows that are mirrored.
    """

    paired: ClassVar[Follows] = "alike"
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must be in [0, 1], got {self.probability}")

    def augment(self, x: Array, key: PRNGKeyArray) -> Array:
        """The image ``[H, W, C]`` or its mirror image.

        Raises:
            ValueError: If ``x`` is no image.
        """
        _check_image(x, "horizontal_flip")
        return jnp.where(jax.random.bernoulli(key, self.probability), x[:, ::-1], x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """Shifts images by up to ``padding`` pixels each way: padded on all sides, then cropped.

    Attributes:
        padding: Pixels on each side.
        mode: What they are: ``"reflect"`` the image, repeat its ``"edge"``, or be 0
            (``"constant"``).
    """

    paired: ClassVar[Follows] = "same size"
    padding: int
    mode: Literal["reflect", "edge", "constant"] = "reflect"

    def __post_init__(self) -> None:
        if self.padding < 1:
            raise ValueError(f"padding must be at least 1, got {self.padding}")

    def augment(self, x: Array, key: PRNGKeyArray) -> Array:
        """A crop of the padded image ``[H, W, C]``, of its own size.

        Raises:
            ValueError: If ``x`` is no image, or smaller than the padding it is to be reflected in.
        """
        _check_image(x, "random_crop")
        if self.mode == "reflect" and self.padding >= min(x.shape[:2]):
            raise ValueError(
                f"random_crop: an image of {x.shape[0]} x {x.shape[1]} cannot be reflected in a "
                f"padding of {self.padding}; lower it, or set mode to 'edge'"
            )
        width = [(self.padding, self.padding)] * 2 + [(0, 0)] * (x.ndim - 2)
        padded = jnp.pad(x, width, mode=self.mode)
        start = jax.random.randint(key, (2,), 0, 2 * self.padding + 1)
        corner: Any = (start[0], start[1], *[0] * (x.ndim - 2))
        return jax.lax.dynamic_slice(padded, corner, x.shape)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomLevels:
    """Replaces some entries by uniform grey levels, which leaves of images what all have in common.

    A model trained on such images is the background that likelihood ratios compare with.

    Attributes:
        share: Probability with which an entry is replaced.
        num_levels: Number of grey levels that it may become.

    References:
        Ren et al., Likelihood Ratios for Out-of-Distribution Detection, arXiv:1906.02845,
        algorithm 1.
    """

    paired: ClassVar[Follows] = "left"
    share: float = 0.2
    num_levels: int = 256

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or self.num_levels < 2:
            raise ValueError(
                "random_levels: share must be in [0, 1] and num_levels at least 2, got "
                f"{self.share} and {self.num_levels}"
            )

    def augment(self, x: Array, key: PRNGKeyArray) -> Array:
        """The example with replaced entries.

        Raises:
            ValueError: If ``x`` holds real numbers.
        """
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"random_levels is for grey levels, got {x.dtype}")
        where, which = jax.random.split(key)
        levels = jax.random.randint(which, x.shape, 0, self.num_levels).astype(x.dtype)
        return jnp.where(jax.random.bernoulli(where, self.share, x.shape), levels, x)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CenterCrop:
    """The middle of images.

    Attributes:
        size: Height and width of what is kept, in pixels.
    """

    paired: ClassVar[Follows] = "same size"
    size: int

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """The middle ``[N, size, size, C]`` of ``[N, H, W, C]``.

        Raises:
            ValueError: If the images are smaller, or none.
        """
        _check_image(x[0], "center_crop")
        height, width = x.shape[1:3]
        if not 1 <= self.size <= min(height, width):
            raise ValueError(
                f"center_crop: size must be from 1 to {min(height, width)} for images of {height} "
                f"x {width}, got {self.size}"
            )
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return x[:, top : top + self.size, left : left + self.size]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resize:
    """Images of another size, filtered so that shrinking does not alias.

    Attributes:
        size: Height and width, in pixels.
        method: Filter of Pillow: ``"box"``, ``"bilinear"``, ``"bicubic"`` or ``"lanczos"``.
    """

    paired: ClassVar[Follows] = "same size"
    size: int
    method: Method = "bicubic"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """The resized images ``[N, size, size, C]`` of ``[N, H, W, C]``.

        Raises:
            ValueError: If these are no images of bytes or real numbers.
        """
        _check_image(x[0], "resize")
        return resized(x, self.size, self.size, self.method)


Rows: TypeAlias = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToRGB:
    """Grey images as images of three like channels, so that they go with those of colours."""

    paired: ClassVar[Follows] = "left"

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Images ``[N, H, W, 3]`` of ``[N, H, W, 1]``; those of three channels stay.

        Raises:
            ValueError: If these are no images of one channel or three.
        """
        _check_image(x[0], "to_rgb")
        if x.shape[-1] not in (1, 3):
            raise ValueError(f"to_rgb is for images of one channel, got {x.shape[-1]}")
        return x if x.shape[-1] == 3 else np.repeat(x, 3, axis=-1)


class PreparedSource:
    """Rows of another source, prepared each time they are asked for.

    Args:
        source: Where they come from.
        prepare: Rows by feature to rows by feature.
        changed: Features that it makes or changes.
    """

    def __init__(self, source: Source, prepare: Callable[[Rows], Rows], changed: Sequence[str]):
        self._source = source
        self._prepare = prepare
        self._changed = tuple(changed)

    def __len__(self) -> int:
        return len(self._source)

    def rows(self, indices: np.ndarray) -> Rows:
        """The examples at ``indices``, stacked."""
        return self._prepare(self._source.rows(indices))

    def column(self, name: str) -> np.ndarray | None:
        """A feature of all examples, if the other source has it at hand as it is."""
        return None if name in self._changed else column(self._source, name)


def prepared(dataset: DataSet, transforms: Sequence[Transform]) -> DataSet:
    """A data set after its transforms without randomness.

    Sets in memory are prepared at once and stay there; others row by row. Features that belong to
    ``x`` pixel by pixel are moved as it is.

    Args:
        dataset: The data set.
        transforms: Transforms in their order; random ones are left for training.

    Returns:
        The data set, its spec that of the prepared rows.

    Raises:
        ValueError: If a transform does not fit the data.
    """
    steps = [t for t in transforms if isinstance(t, Preparation | Pairing)]
    if not steps:
        return dataset

    def prepare(rows: Rows) -> Rows:
        for step in steps:
            rows = _paired(step, rows, dataset) if isinstance(step, Pairing) else _moved(step, rows)
        # Filters overshoot at edges.
        return {name: _clipped(dataset, name, array) for name, array in rows.items()}

    changed = ("x", *PAIRED)
    source: Source
    if isinstance(dataset.source, ArraySource):
        source = ArraySource(**prepare(dataset.source.arrays))
    else:
        source = PreparedSource(dataset.source, prepare, changed)
    one = source.rows(np.zeros(1, int))
    spec = dict(dataset.spec)
    for name in changed:
        if name in one:
            like = spec.get(name, spec["x"])
            shape, dtype = one[name].shape[1:], one[name].dtype
            spec[name] = dataclasses.replace(like, shape=shape, dtype=dtype)
    return dataclasses.replace(dataset, source=source, spec=spec)


def _clipped(dataset: DataSet, name: str, array: np.ndarray) -> np.ndarray:
    """An image within its grey levels; ``source`` has those of ``x`` if it is made of it."""
    if name not in ("x", *PAIRED):
        return array
    levels = dataset.spec.get(name, dataset.spec["x"]).num_levels
    return array if levels is None else np.clip(array, 0, levels - 1)


def _moved(step: Preparation, rows: Rows) -> Rows:
    """Rows after a transform of ``x``, and of what has to move with it."""
    made = {}
    for name in _moving(step, {name: array.shape[1:] for name, array in rows.items()}):
        made[name] = step.prepare(rows[name])
        if len(made[name]) != len(rows[name]):
            raise ValueError(
                f"{type(step).__name__}.prepare must keep the rows: {len(rows[name])} became "
                f"{len(made[name])}"
            )
    return {**rows, **made}


def _paired(step: Pairing, rows: Rows, dataset: DataSet) -> Rows:
    """Rows with the feature ``source`` that a transform makes of ``x``."""
    if "source" in rows:
        raise ValueError(
            f"{type(step).__name__}: the rows have a source already; leave one of the two out"
        )
    made = step.pair(rows["x"], dataset.num_levels)
    if len(made) != len(rows["x"]) or made.dtype != rows["x"].dtype:
        raise ValueError(
            f"{type(step).__name__}.pair must keep rows and type: {len(rows['x'])} of "
            f"{rows['x'].dtype} became {len(made)} of {made.dtype}"
        )
    return {**rows, "source": made}


def _moving(step: Any, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Features that a transform is applied to: ``x``, and what has to move with it.

    Raises:
        ValueError: If something is paired with ``x`` that cannot be moved alike.
    """
    paired = [name for name in PAIRED if name in shapes]
    if not paired:
        return ["x"]
    follows, called = getattr(step, "paired", None), type(step).__name__
    if follows not in ("alike", "same size", "left"):
        raise ValueError(
            f"{called} does not say what becomes of {paired[0]}, which is paired with x: give it a "
            "class attribute paired of 'alike', 'same size' or 'left', or put it before what makes "
            f"{paired[0]}"
        )
    for name in paired if follows == "same size" else []:
        if shapes[name][:2] != shapes["x"][:2]:
            raise ValueError(
                f"{called} would move x and not {name}, which has another size "
                f"({list(shapes[name][:2])} and {list(shapes['x'][:2])}): leave it out"
                + (", or put it before what makes source" if hasattr(step, "prepare") else "")
            )
    return ["x"] if follows == "left" else ["x", *paired]


Augment: TypeAlias = Callable[[Mapping[str, Any], Any], Mapping[str, Any]]
"""``(batch, step) -> batch``, traced."""


def augmenter(
    transforms: Sequence[Transform], key: PRNGKeyArray, event_rank: int
) -> Augment | None:
    """The random transforms of a stream, as one function of its batch and the step.

    Features that belong to ``x`` pixel by pixel are moved by the same draws.

    Args:
        transforms: Transforms in their order; those without randomness have been made before.
        key: Key of the run for this purpose; number of the step, of the row in the global batch
            and of the transform are folded in, one after the other.
        event_rank: Number of axes of one ``x``; those before it are rows.

    Returns:
        The function, or None if nothing is random.
    """
    steps = [t for t in transforms if isinstance(t, Augmentation)]
    if not steps:
        return None

    def one(rows: Mapping[str, Array], row_key: PRNGKeyArray) -> Mapping[str, Array]:
        for number, transform in enumerate(steps):
            moving = _moving(transform, {name: array.shape for name, array in rows.items()})
            draws = jax.random.fold_in(row_key, number)
            rows = {**rows, **{name: _augmented(transform, rows[name], draws) for name in moving}}
        return rows

    def augment(batch: Mapping[str, Any], step: Any) -> Mapping[str, Any]:
        x = batch["x"]
        lead = x.shape[: x.ndim - event_rank]
        count = math.prod(lead)
        of_step = jax.random.fold_in(key, step)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(of_step, jnp.arange(count))
        own = {name: batch[name] for name in ("x", *PAIRED) if name in batch}
        flat = {name: rows.reshape(count, *rows.shape[len(lead) :]) for name, rows in own.items()}
        made = jax.vmap(one)(flat, keys)
        return {**batch, **{name: made[name].reshape(rows.shape) for name, rows in own.items()}}

    return augment


def _augmented(transform: Augmentation, x: Array, key: PRNGKeyArray) -> Array:
    """One image after a random transform."""
    made = transform.augment(x, key)
    if made.shape != x.shape or made.dtype != x.dtype:
        raise ValueError(
            f"{type(transform).__name__}.augment must keep shape and type: {x.dtype}"
            f"{list(x.shape)} became {made.dtype}{list(made.shape)}"
        )
    return made
