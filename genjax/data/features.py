"""What a data set holds: named features, and the splits that have them."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Feature:
    """One entry of an example.

    Attributes:
        shape: Shape of one; ``()`` for a number.
        dtype: Type it comes in.
        num_levels: Number of grey levels if it holds whole grey levels, else None.
        num_classes: Number of classes if it is a class id, else None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    num_levels: int | None = None
    num_classes: int | None = None


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
    """

    name: str
    source: Source
    spec: Mapping[str, Feature]
    mixture: tuple[np.ndarray, float] | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one ``x``."""
        return self.spec["x"].shape

    @property
    def num_levels(self) -> int | None:
        """Number of grey levels of ``x``, if it holds whole grey levels."""
        return self.spec["x"].num_levels

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
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"features must have the same number of rows, got {lengths}")
    spec = {}
    for key, array in arrays.items():
        levels = classes = None
        if key == "x":
            levels = num_levels or (256 if array.dtype == np.uint8 else None)
        elif key == "label":
            if not np.issubdtype(array.dtype, np.integer) or array.ndim != 1 or array.min() < 0:
                raise ValueError(
                    "label must hold class ids 0, 1, ... as whole numbers [N], got "
                    f"{array.dtype} {list(array.shape)} from {array.min()} on"
                )
            classes = int(array.max()) + 1
        spec[key] = Feature(array.shape[1:], array.dtype, levels, classes)
    return DataSet(name, ArraySource(**arrays), spec, mixture)
