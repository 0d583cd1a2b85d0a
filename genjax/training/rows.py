"""Rows that a user hands to a run: of the data's kind, or refused in one line."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genjax.data import Feature, tokens_of
from genjax.training.experiment import Experiment


def rows_to_score(
    experiment: Experiment, x: ArrayLike, features: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Rows as the family takes them in evaluation.

    Args:
        experiment: Says what the rows must be.
        x: Rows ``[N, *event]``.
        features: Further features, each ``[N, ...]`` or a single value for all rows; captions may
            be texts.

    Returns:
        The rows, with those features of the first stream that are given.

    Raises:
        ValueError: If they are not of the data's kind, or a feature that the family reads is
            missing.
    """
    spec = _features(experiment)
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
        values = _as_tokens(name, values, spec[name])
        rows[name] = _checked(name, values, len(array), spec[name], name in family.unlabelled)
    return rows


def rows_to_read(
    experiment: Experiment, count: int | None, reads: Mapping[str, Any]
) -> tuple[int, dict[str, np.ndarray]]:
    """Rows to sample from, and how many there are.

    Args:
        experiment: Says what is read.
        count: Number of rows, if it is given.
        reads: Features, each with one row a sample or a single value for all; captions may be
            texts.

    Returns:
        Number of rows, and the features that are given.

    Raises:
        ValueError: If the family does not read one, or numbers of rows differ.
    """
    family = experiment.family
    # What samples are guided away from, of what denoises and may be told nothing.
    away = {f"negative_{n}": n for n in family.unlabelled} if family.denoising is not None else {}
    spec = _features(experiment)
    spec |= {name: spec[of] for name, of in away.items()}
    for name in reads:
        if name not in (*family.reads, *family.derived, *away):
            known = ", ".join((*family.reads, *family.derived)) or "nothing"
            raise ValueError(f"this family does not read {name!r}; it reads {known}")
    reads = {name: _as_tokens(name, values, spec[name]) for name, values in reads.items()}
    for name, values in reads.items():
        array = np.asarray(values)
        if count is None and array.ndim > len(spec[name].shape):
            count = len(array)
    count = experiment.sample.num_samples if count is None else count
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise ValueError(f"num_samples must be a positive whole number, got {count!r}")
    count = int(count)
    return count, {
        name: _checked(name, values, count, spec[name], away.get(name, name) in family.unlabelled)
        for name, values in reads.items()
    }


def rows_to_fill(
    experiment: Experiment, x: ArrayLike, mask: ArrayLike | None, features: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows with missing entries, and where they are known.

    Args:
        experiment: Says what the rows must be.
        x: Rows ``[N, *event]``; read where they are known.
        mask: True where they are: see :func:`checked_mask`. None for where they are not NaN.
        features: Further features, as of :func:`rows_to_score`.

    Returns:
        The rows as the family takes them, 0 where they are missing, and booleans ``[N, *event]``.

    Raises:
        ValueError: If there are no rows, they are not of the data's kind, or the mask does not fit.
    """
    array = np.asarray(x)
    real = experiment.spec["x"].num_levels is None
    if mask is None and not real:
        raise ValueError("mask: grey levels are never NaN; say where they are known")
    if mask is None:
        mask = ~np.isnan(array.astype(np.float64))
    if not array.ndim or not len(array):
        raise ValueError("expected rows, got none")
    known = checked_mask(mask, array.shape)
    filled = np.where(known, array, np.zeros((), array.dtype))
    return rows_to_score(experiment, filled, features), known


def checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """A mask of the shape of some rows.

    Args:
        mask: Of the shape of the rows, of one of them, or of an image without its channels.
        shape: ``[N, *event]``.

    Returns:
        Booleans ``[N, *event]``.

    Raises:
        ValueError: If it has another shape, or values other than True and False.

    Example:
        >>> checked_mask(np.eye(2, dtype=bool), (5, 2, 2, 3)).shape
        (5, 2, 2, 3)
    """
    array = np.asarray(mask)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError(f"mask: expected True where x is known, got values of {array.dtype}")
    count, *event = shape
    if len(event) == 3 and list(array.shape) in (event[:-1], [count, *event[:-1]]):
        array = array[..., None]
    channels = [event, [*event[:-1], 1]] if len(event) == 3 else [event]
    if list(array.shape) not in [*channels, *([count, *one] for one in channels)]:
        raise ValueError(
            f"mask: expected the shape of the rows {shape}, of an example {tuple(event)}"
            f"{f' or of its pixels {tuple(event[:-1])}' if len(event) == 3 else ''}, got "
            f"{np.shape(mask)}"
        )
    return np.broadcast_to(array.astype(bool), shape)


def rows_of_feature(name: str, values: ArrayLike, feature: Feature) -> np.ndarray:
    """Rows of one feature alone.

    Args:
        name: Its name.
        values: Its values, ``[N, *shape]``; of what is not ``x`` a single one will do.
        feature: Says what they must be.

    Returns:
        ``[N, *shape]``, of the feature's type.

    Raises:
        ValueError: If they are not of the data's kind.
    """
    array = np.asarray(values)
    single = array.ndim <= len(feature.shape)
    return _checked(name, array, 1 if single else len(array), feature)


def _features(experiment: Experiment) -> dict[str, Feature]:
    """Features of the data, and those that may stand in place of what they are computed from."""
    real = np.dtype(np.float32)
    derived = {name: Feature(of.shape, real) for name, of in experiment.family.derived.items()}
    return {**experiment.spec, **derived}


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


def captions_of(experiment: Experiment, requests: Mapping[str, np.ndarray]) -> list[str] | None:
    """Texts that samples are asked from.

    Args:
        experiment: Says what is read.
        requests: What samples are asked from.

    Returns:
        A text for each, empty where there is none; None if no text is read.
    """
    for name in experiment.family.reads:
        vocabulary = experiment.spec[name].vocabulary
        if vocabulary is not None and name != "x":
            rows = requests[name]
            told = np.min(rows, axis=1) >= 0  # -1 stands for no text
            texts = iter(vocabulary.decode(rows[told]))
            return [next(texts).strip() if one else "" for one in told]
    return None


def _as_tokens(name: str, values: Any, feature: Feature) -> Any:
    """Texts as rows of tokens, where a feature is of these; all else as it is."""
    array = np.asarray(values)
    if name == "x" or feature.vocabulary is None or array.dtype.kind not in "US":
        return values
    try:
        rows = tokens_of([str(text) for text in array.reshape(-1)], feature)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return rows.reshape(*array.shape, *feature.shape)


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
