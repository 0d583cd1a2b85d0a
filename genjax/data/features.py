"""What a data set holds: named features, and the splits that have them."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from genjax.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Feature:
    """One entry of an example.

    Attributes:
        shape: Shape of one; ``()`` for a number.
        dtype: Type it comes in.
        num_levels: Number of grey levels if it holds whole grey levels, else None.
        num_classes: Number of classes if it is a class id, else None.
        class_names: Names of the classes, if they have any.
        vocabulary: What its whole numbers stand for, if it is text.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    num_levels: int | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    vocabulary: Vocabulary | None = None


class Source(Protocol):
    """Random access to examples, by the names of their features."""

    def __len__(self) -> int: ...

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked."""
        ...


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One split of a data set and what a model must know of it.

    Attributes:
        name: Name it was loaded by.
        source: Its examples.
        spec: Its features. By convention ``x`` is what is modelled, and ``label`` a class id.
        mixture: Centres ``[K, D]`` and standard deviation of the components, if ``x`` is a known
            mixture of equally weighted Gaussians.
        origin: What the rows were made by, such as versions of packages, for those who wonder why
            they differ from others of this name.
    """

    name: str
    source: Source
    spec: Mapping[str, Feature]
    mixture: tuple[np.ndarray, float] | None = None
    origin: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one ``x``."""
        return self.spec["x"].shape

    @property
    def num_levels(self) -> int | None:
        """Number of grey levels of ``x``, if it holds whole grey levels."""
        return self.spec["x"].num_levels

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What the levels of ``x`` stand for, if it is text."""
        return self.spec["x"].vocabulary

    @property
    def num_classes(self) -> int | None:
        """Number of classes, if there are labels."""
        return self.spec["label"].num_classes if "label" in self.spec else None


class ArraySource:
    """Examples held in memory.

    Args:
        **arrays: Features of all examples, each ``[N, ...]``.
    """

    def __init__(self, **arrays: np.ndarray):
        self.arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked."""
        return {name: array[indices] for name, array in self.arrays.items()}

    def column(self, name: str) -> np.ndarray:
        """A feature of all examples."""
        return self.arrays[name]


def column(source: Source, name: str) -> np.ndarray | None:
    """A feature of all examples, such as their labels, where that is at hand.

    Args:
        source: The examples. A source may have a method ``column`` which gives a feature without
            decoding the others.
        name: Name of the feature.

    Returns:
        ``[N, ...]``, or None where all examples would have to be decoded.
    """
    read = getattr(source, "column", None)
    return None if read is None else read(name)


def from_arrays(
    name: str,
    *,
    num_levels: int | None = None,
    mixture: tuple[np.ndarray, float] | None = None,
    **arrays: np.ndarray,
) -> DataSet:
    """A data set of arrays in memory.

    Args:
        name: What it is called.
        num_levels: Number of grey levels of ``x``; 256 for bytes if None.
        mixture: As in :class:`DataSet`.
        **arrays: Features of all examples, each ``[N, ...]``: ``x``, and ``label`` (class ids from
            0) where there are classes.

    Returns:
        The data set.

    Raises:
        ValueError: If there is no ``x``, or lengths differ.
    """
    if "x" not in arrays:
        raise ValueError(f"a data set needs a feature x, got {', '.join(arrays) or 'nothing'}")
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"features must have the same number of rows, got {lengths}")
    spec = {}
    for key, array in arrays.items():
        levels = classes = None
        if key == "x":
            levels = num_levels or (256 if array.dtype == np.uint8 else None)
        elif key == "label":
            array = class_ids(array, len(arrays["x"]), "label")
            classes = int(array.max()) + 1
        if np.issubdtype(array.dtype, np.floating):
            array = as_float32(array, f"{key} of {name}")
        arrays[key] = array
        spec[key] = Feature(array.shape[1:], array.dtype, levels, classes)
    return DataSet(name, ArraySource(**arrays), spec, mixture)


def class_ids(values: np.ndarray, count: int, where: str) -> np.ndarray:
    """Class ids as models take them.

    Args:
        values: What is given for them.
        count: Number of examples.
        where: What holds them, for the message.

    Returns:
        int32 ``[count]``.

    Raises:
        ValueError: If these are not ``count`` whole numbers from 0 on that int32 can hold.
    """
    values = np.asarray(values)
    whole = values.shape == (count,) and np.issubdtype(values.dtype, np.integer)
    if not whole or (count and not 0 <= int(values.min()) <= int(values.max()) < 2**31 - 1):
        span = f" from {values.min()} to {values.max()}" if whole else ""
        raise ValueError(
            f"{where} must hold class ids 0, 1, ... as whole numbers [{count}], got {values.dtype} "
            f"{list(values.shape)}{span}"
        )
    return values.astype(np.int32)


def as_float32(values: np.ndarray, where: str) -> np.ndarray:
    """Real numbers as models take them.

    Args:
        values: Numbers ``[N, ...]``.
        where: What holds them, for the message.

    Returns:
        The same in float32.

    Raises:
        ValueError: If some are not finite, or a column varies in digits that float32 has not.
    """
    with np.errstate(over="ignore"):
        rows = values.astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError(f"{where} holds NaN or infinity, or numbers beyond float32")
    if values.ndim == 2 and values.dtype.itemsize > 4:
        check_digits(values, values - values[:1], where)
    return rows


def check_digits(numbers: np.ndarray, offsets: np.ndarray, where: str) -> None:
    """Refuses columns that vary in digits which float32 has not, such as time stamps.

    Args:
        numbers: Columns ``[N, D]``, float64.
        offsets: The same less their first numbers.
        where: What they are, for the message.

    Raises:
        ValueError: If less than a twentieth of a standard deviation can be told apart.
    """
    if not len(numbers):
        return
    step = np.spacing(np.abs(numbers).max(0).astype(np.float32)).astype(np.float64)
    spread = offsets.std(0)
    lost = np.flatnonzero((spread > 0.0) & (spread < 20.0 * step))
    if lost.size:
        column = int(lost[0])
        which = f", column {column}," if numbers.shape[1] > 1 else ""
        raise ValueError(
            f"{where}{which} varies by {np.ptp(offsets[:, column]):.6g} about "
            f"{numbers[0, column]:.10g}, in digits that float32 has not: subtract a constant, or "
            "leave it out if it numbers the rows"
        )


def check_rows(dataset: DataSet) -> None:
    """Whether the rows of a data set are what its spec says they are.

    All rows of a set in memory are looked at, else the first.

    Raises:
        ValueError: If they are not.
    """
    count = len(dataset.source)
    if not count:
        raise ValueError(f"{dataset.name} has no rows")
    rows = dataset.source.rows(np.zeros(1, int))
    if isinstance(dataset.source, ArraySource):
        rows = dataset.source.arrays
    if set(rows) != set(dataset.spec) or "x" not in rows:
        raise ValueError(
            f"{dataset.name} says that its features are {', '.join(dataset.spec)}, but its rows "
            f"hold {', '.join(rows)}; there must be an x"
        )
    for name, feature in dataset.spec.items():
        _check_feature(f"{name} of {dataset.name}", feature, np.asarray(rows[name]))


def _check_feature(where: str, feature: Feature, rows: np.ndarray) -> None:
    dtype = np.dtype(feature.dtype)
    if rows.shape[1:] != tuple(feature.shape) or rows.dtype != dtype:
        raise ValueError(
            f"{where} is said to be {dtype}{list(feature.shape)}, but a row is {rows.dtype}"
            f"{list(rows.shape[1:])}"
        )
    for limit, word in [(feature.num_levels, "grey levels"), (feature.num_classes, "class ids")]:
        if limit is None:
            continue
        if not np.issubdtype(dtype, np.integer):
            raise ValueError(
                f"{where} is said to hold {limit} {word}, which are whole numbers, but is {dtype}; "
                "convert it to whole numbers, or leave their number out"
            )
        if not 0 <= int(rows.min()) <= int(rows.max()) < limit:
            raise ValueError(
                f"{where} must hold {word} from 0 to {limit - 1}, got {rows.min()} to {rows.max()}"
            )
    is_x = where.startswith("x ")
    if is_x and feature.num_levels is None and not np.issubdtype(dtype, np.floating):
        raise ValueError(
            f"{where} is {dtype}: expected real numbers (float32), or whole grey levels with their "
            "number (num_levels)"
        )
    if np.issubdtype(dtype, np.floating) and not np.isfinite(rows).all():
        raise ValueError(f"{where} holds NaN or infinity")


def looks_like_levels(dataset: DataSet) -> bool:
    """Whether the real-valued images of a set seem to be 8-bit grey levels in floating point."""
    feature = dataset.spec["x"]
    if feature.num_levels is not None or len(feature.shape) != 3:
        return False
    few = dataset.source.rows(np.arange(min(8, len(dataset.source))))["x"].astype(np.float64)
    for unit in (1.0, 1.0 / 255.0):
        levels = few / unit
        near = np.abs(levels - np.round(levels)) < 1e-3
        if near.all() and levels.min() >= 0 and levels.max() <= 255 and np.ptp(levels) > 1:
            return True
    return False
