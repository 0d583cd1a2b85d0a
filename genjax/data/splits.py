"""Splits of data sets: parts of those there are, and a share of the rows held out to test on."""

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np

from genjax.data.features import ArraySource, DataSet, Source, column

_SLICE = re.compile(r"^(?P<name>[^\[\]]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?$")


class SlicedSource:
    """Consecutive rows of another source.

    Args:
        source: Where they come from.
        start: The first row.
        stop: The row to stop before.
    """

    def __init__(self, source: Source, start: int, stop: int):
        self._source = source
        self._start = start
        self._count = max(0, stop - start)

    def __len__(self) -> int:
        return self._count

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked."""
        return self._source.rows(np.asarray(indices) + self._start)

    def column(self, name: str) -> np.ndarray | None:
        """A feature of all examples, if the other source has it at hand."""
        whole = column(self._source, name)
        return None if whole is None else whole[self._start : self._start + self._count]


def split_name(split: str) -> str:
    """The name of a split without the slice that may follow it.

    Raises:
        ValueError: If it cannot be read.

    Example:
        >>> split_name("train[:90%]")
        'train'
    """
    return _parsed(split)["name"]


def sliced(dataset: DataSet, split: str) -> DataSet:
    """The part of a data set that a split asks for, as TFDS writes it.

    Args:
        dataset: All rows of the split.
        split: Its name, which may be followed by the rows to keep, as numbers or as percentages:
            ``train[:90%]``, ``train[-500:]``, ``test[100:200]``.

    Returns:
        The data set with these rows.

    Raises:
        ValueError: If the split cannot be read.
    """
    parts, count = _parsed(split), len(dataset.source)
    if parts["start"] is None and parts["stop"] is None:
        return dataset
    start = _position(parts["start"], count, 0)
    stop = _position(parts["stop"], count, count)
    source: Source = dataset.source
    if isinstance(source, ArraySource):
        kept = {name: array[start:stop] for name, array in source.arrays.items()}
        return dataclasses.replace(dataset, source=ArraySource(**kept))
    return dataclasses.replace(dataset, source=SlicedSource(source, start, stop))


def of_classes(dataset: DataSet, classes: Sequence[int] | None) -> DataSet:
    """The examples of some classes.

    Args:
        dataset: All examples.
        classes: Class ids that are kept; None for all. They go by the same numbers as before.

    Returns:
        The data set with these examples, in their order.

    Raises:
        ValueError: If the data has no labels at hand, or an id is not one of theirs.
    """
    if classes is None:
        return dataset
    labels = column(dataset.source, "label") if "label" in dataset.spec else None
    if labels is None:
        raise ValueError(f"{dataset.name} has no labels at hand to choose classes by")
    count, asked = dataset.num_classes or 0, list(classes)
    wrong = [c for c in asked if isinstance(c, bool) or c not in range(count)]
    if wrong or not asked:
        raise ValueError(f"classes must be some of 0 to {count - 1}, got {asked}")
    return _chosen(dataset, np.flatnonzero(np.isin(labels, asked)))


def labelled_rows(dataset: DataSet, *, per_class: int, seed: int = 0) -> DataSet:
    """As many examples of each class, drawn at random: the labelled rows of semi-supervision.

    Args:
        dataset: All examples.
        per_class: Number of examples of each class.
        seed: Seed of the draw, on which nothing else depends; not negative.

    Returns:
        The data set with these examples, in their order.

    Raises:
        ValueError: If the data has no labels at hand, a class has too few examples, or an argument
            is out of range.
    """
    labels = column(dataset.source, "label") if "label" in dataset.spec else None
    if labels is None:
        raise ValueError(f"{dataset.name} has no labels at hand to choose rows by")
    if per_class < 1 or seed < 0:
        raise ValueError(
            f"per_class must be at least 1 and seed not negative, got {per_class} and {seed}"
        )
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    permutation, kept = order.permutation(len(labels)), []
    for class_id in np.unique(labels):
        rows = permutation[labels[permutation] == class_id]
        if len(rows) < per_class:
            raise ValueError(
                f"per_class is {per_class}, but {dataset.name} has {len(rows)} examples of the "
                f"class {class_id}"
            )
        kept.append(rows[:per_class])
    return _chosen(dataset, np.sort(np.concatenate(kept)))


def _chosen(dataset: DataSet, kept: np.ndarray) -> DataSet:
    """The data set with the examples at some positions."""
    if isinstance(dataset.source, ArraySource):
        arrays = {name: array[kept] for name, array in dataset.source.arrays.items()}
        return dataclasses.replace(dataset, source=ArraySource(**arrays))
    return dataclasses.replace(dataset, source=_ChosenSource(dataset.source, kept))


class _ChosenSource:
    """Some rows of another source."""

    def __init__(self, source: Source, kept: np.ndarray):
        self._source = source
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked."""
        return self._source.rows(self._kept[np.asarray(indices)])

    def column(self, name: str) -> np.ndarray | None:
        """A feature of all examples, if the other source has it at hand."""
        whole = column(self._source, name)
        return None if whole is None else whole[self._kept]


def _parsed(split: str) -> dict[str, str]:
    found = _SLICE.match(split)
    if found is None:
        raise ValueError(
            f"a split is a name, or a name and rows such as train[:90%] or train[100:200], got "
            f"{split!r}"
        )
    return found.groupdict()


def _position(text: str | None, count: int, default: int) -> int:
    """The row that a bound of a slice means, within ``[0, count]``."""
    if text is None:
        return default
    position = round(int(text[:-1]) / 100 * count) if text.endswith("%") else int(text)
    return min(max(position + count if position < 0 else position, 0), count)


def walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """Folders and the names of their files, sorted; links are followed, but not in circles.

    Args:
        root: Where to begin. Folders whose names begin with a dot are left out.
    """
    visited = set()
    for place, folders, files in os.walk(root, followlinks=True):
        visited.add(os.path.realpath(place))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and os.path.realpath(os.path.join(place, name)) not in visited
        )
        yield place, sorted(files)


def held_out(count: int, share: float, split: str) -> np.ndarray:
    """Rows of one of the two splits that are made of a set which has none.

    Which rows are held out depends on nothing but ``count`` and ``share``.

    Args:
        count: Number of rows in all.
        share: Share of them that is held out to test on, in (0, 1).
        split: ``train`` or ``test``.

    Returns:
        Positions of the rows, in increasing order.

    Raises:
        ValueError: If the arguments are out of range.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"holdout must be between 0 and 1, got {share}")
    if split not in ("train", "test"):
        raise ValueError(f"a set without splits of its own has train and test, got {split!r}")
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((0, count))))
    number = max(1, round(share * count))
    permutation = order.permutation(count)
    return np.sort(permutation[:number] if split == "test" else permutation[number:])
