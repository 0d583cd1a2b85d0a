"""Rows that a user hands to a run: of the data's kind, or refused in one line."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genjax.data import Feature
from genjax.training.experiment import Experiment


def rows_to_score(
    experiment: Experiment, x: ArrayLike, features: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Rows as the family takes them in evaluation.

    Args:
        experiment: Says what the rows must be.
        x: Rows ``[N, *event]``.
        features: Further features, each ``[N, ...]`` or a single value for all rows.

    Returns:
        The rows, with those features of the first stream that are given.

    Raises:
        ValueError: If they are not of the data's kind, or a feature that the family reads is
            missing.
    """
    spec = experiment.spec
    array = np.asarray(x)
    family = experiment.family
    needed = [name for name in family.reads if name != "x" and name not in family.steers]
    missing = [name for name in needed if name not in features]
    if missing:
        raise ValueError(
            f"this model is conditional: give {missing[0]}, one of each row or one for all"
        )
    rows = {"x": _checked("x", array, len(array) if array.ndim else 0, spec["x"])}
    for name, values in features.items():
        if name not in spec:
            raise ValueError(f"the data has no feature {name!r}; it has {', '.join(spec)}")
        rows[name] = _checked(name, values, len(array), spec[name], name in family.unlabelled)
    return rows


def rows_to_read(
    experiment: Experiment, count: int | None, reads: Mapping[str, Any]
) -> tuple[int, dict[str, np.ndarray]]:
    """Rows to sample from, and how many there are.

    Args:
        experiment: Says what is read.
        count: Number of rows, if it is given.
        reads: Features, each with one row a sample or a single value for all.

    Returns:
        Number of rows, and the features that are given.

    Raises:
        ValueError: If the family does not read one, or numbers of rows differ.
    """
    spec, family = experiment.spec, experiment.family
    for name, values in reads.items():
        if name not in family.reads:
            known = ", ".join(family.reads) or "nothing"
            raise ValueError(f"this family does not read {name!r}; it reads {known}")
        array = np.asarray(values)
        if count is None and array.ndim > len(spec[name].shape):
            count = len(array)
    count = experiment.sample.num_samples if count is None else count
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"num_samples must be a positive whole number, got {count!r}")
    count = int(count)
    return count, {
        name: _checked(name, values, count, spec[name], name in family.unlabelled)
        for name, values in reads.items()
    }


def _checked(
    name: str, values: Any, count: int, feature: Feature, unlabelled: bool = False
) -> np.ndarray:
    """Values of a feature for ``count`` rows, of the feature's type; -1 for no label if it may."""
    array = np.asarray(values)
    if array.shape == feature.shape and name != "x":
        array = np.broadcast_to(array, (count, *feature.shape))
    if array.shape != (count, *feature.shape):
        expected = ", ".join(map(str, (count, *feature.shape)))
        raise ValueError(f"{name}: expected rows [{expected}], got shape {list(array.shape)}")
    if array.dtype.kind in "US":
        array = _ids_of_names(name, array, feature)
    for limit, kind in ((feature.num_levels, "grey levels"), (feature.num_classes, "class ids")):
        if limit is None:
            continue
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"{name}: expected whole {kind} from 0 to {limit - 1}, got {array.dtype}"
            )
        of_classes = kind == "class ids"
        least = -1 if unlabelled and of_classes else 0
        if array.size and not least <= int(array.min()) <= int(array.max()) < limit:
            hint = ""
            if of_classes and not unlabelled and int(array.min()) == -1:
                hint = (
                    "; -1 stands for no label, which this model was never without: train it with "
                    "family.label_dropout"
                )
            raise ValueError(
                f"{name}: expected whole {kind} from 0 to {limit - 1}, got {array.min()} to "
                f"{array.max()}{hint}"
            )
    if not feature.num_levels and not feature.num_classes and array.dtype == object:
        raise ValueError(f"{name}: expected numbers, got objects")
    with np.errstate(over="ignore"):
        rows = array.astype(feature.dtype)
    if np.issubdtype(rows.dtype, np.floating) and not np.isfinite(rows).all():
        raise ValueError(f"{name}: expected finite numbers of {rows.dtype}, got NaN or beyond")
    return rows


def _ids_of_names(name: str, names: np.ndarray, feature: Feature) -> np.ndarray:
    """Class ids of names of classes."""
    known = feature.class_names
    if not known:
        raise ValueError(
            f"{name}: expected numbers, got {names.flat[0]!r}: its classes are unnamed"
        )
    position = {called: i for i, called in enumerate(known)}
    unknown = [called for called in names.reshape(-1).tolist() if called not in position]
    if unknown:
        raise ValueError(f"{name}: no class is called {unknown[0]!r}; they are {', '.join(known)}")
    ids = [position[called] for called in names.reshape(-1).tolist()]
    return np.array(ids, np.int32).reshape(names.shape)
