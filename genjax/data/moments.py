"""Means and standard deviations of data, to standardise it by."""

import dataclasses
import math

import numpy as np

from genjax.data.features import ArraySource, DataSet

# Models take data as it is while every entry is about as wide, and as near zero, as the noise that
# they start from.
_NARROW, _WIDE, _FAR = 0.1, 10.0, 10.0
# Most rows, and numbers in them, that are read of a set which is not in memory, spread from first
# to last.
_NUM_ROWS, _NUM_ENTRIES = 65_536, 2**30
# Most rows, and numbers in them, that are looked at at once.
_CHUNK_ROWS, _CHUNK_ENTRIES = 4096, 2**25


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of ``x``, float32.

    Of points ``[D]`` for each column, of images ``[1, 1, C]`` for each channel. An entry that never
    changes has standard deviation 1: there is nothing to divide by. ``constant`` has the
    positions of these.
    """

    mean: np.ndarray
    std: np.ndarray
    constant: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, int))

    def far_from_standard(self) -> np.ndarray:
        """Positions of the entries that models do not take as they are."""
        wide = (self.std < _NARROW) | (self.std > _WIDE)
        return np.flatnonzero(wide | (np.abs(self.mean) > _FAR))


def deviation(dataset: DataSet, *, chunk: int | None = None) -> float:
    """Standard deviation of all entries of ``x`` together, about their common mean.

    Grey levels are taken as the centres of equal bins of [-1, 1]. Of a set that is not in memory,
    at most 65,536 rows and a billion pixels from first to last are read.

    Args:
        dataset: The split.
        chunk: Rows read at a time; None for as many as take 256 MiB, 4,096 at most.

    Returns:
        The deviation; 1 of data that never changes.

    References:
        Karras et al., arXiv:2206.00364, table 1, where it is sigma_data.
    """
    levels = dataset.spec["x"].num_levels
    count, total, squares = 0, 0.0, 0.0
    looked_at, chunk = _looked_at(dataset), chunk or _chunk_of(dataset)
    for start in range(0, len(looked_at), chunk):
        x = dataset.source.rows(looked_at[start : start + chunk])["x"].astype(np.float64)
        if levels is not None:
            x = (x + 0.5) * (2.0 / levels) - 1.0
        count += x.size
        total += float(x.sum())
        squares += float((x**2).sum())
    variance = squares / count - (total / count) ** 2
    return float(np.sqrt(variance)) if variance > 0 else 1.0


def _looked_at(dataset: DataSet) -> np.ndarray:
    """Positions of the rows that are read."""
    number, entries = len(dataset.source), math.prod(dataset.event_shape)
    most = min(_NUM_ROWS, max(2, _NUM_ENTRIES // entries))
    if not isinstance(dataset.source, ArraySource) and number > most:
        return np.linspace(0, number - 1, most).astype(int)
    return np.arange(number)


def _chunk_of(dataset: DataSet) -> int:
    """How many rows are looked at at once."""
    return min(_CHUNK_ROWS, max(1, _CHUNK_ENTRIES // math.prod(dataset.event_shape)))


def moments(dataset: DataSet, *, chunk: int | None = None) -> Moments:
    """Moments of the real-valued ``x`` of a split, in one pass over it.

    Of a set that is not in memory, at most 65,536 rows and a billion numbers from first to last are
    read.

    Args:
        dataset: The split.
        chunk: Rows read at a time; None for as many as take 256 MiB, 4,096 at most.

    Returns:
        The moments, computed in float64 around the first rows' mean.

    Raises:
        ValueError: If ``x`` holds grey levels, or values that are not finite.
    """
    feature = dataset.spec["x"]
    if feature.num_levels is not None:
        raise ValueError("grey levels have units of their own; only real numbers are standardised")
    axes = tuple(range(len(feature.shape))) if len(feature.shape) > 1 else (0,)
    count, centre = 0, None
    total: np.ndarray = np.zeros(())
    squares: np.ndarray = np.zeros(())
    looked_at, chunk = _looked_at(dataset), chunk or _chunk_of(dataset)
    for start in range(0, len(looked_at), chunk):
        rows = looked_at[start : start + chunk]
        x = dataset.source.rows(rows)["x"].astype(np.float64)
        if centre is None:
            # Else the squares of data far from zero would have no digits left for its spread.
            centre = x.mean(axes, keepdims=True)
        off = x - centre
        total = total + off.sum(axes, keepdims=True)
        squares = squares + (off**2).sum(axes, keepdims=True)
        count += off.size // centre.size
    assert centre is not None
    shift = total / count
    variance = np.maximum(squares / count - shift**2, 0.0)
    mean, std = (centre + shift)[0], np.sqrt(variance)[0]
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ValueError(f"{dataset.name} holds NaN or infinity")
    # Rounding leaves a constant column a spread of the last digits of its value.
    varies = std > 1e-6 * np.abs(mean)
    varies &= std > 0
    return Moments(
        mean.astype(np.float32),
        np.where(varies, std, 1.0).astype(np.float32),
        np.flatnonzero(~varies),
    )
