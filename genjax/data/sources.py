"""Data sets by name: embedded ones, densities of the plane, TFDS image sets, own files."""

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from genjax.data.arrays import npy
from genjax.data.captioned_glyphs import captioned_glyphs
from genjax.data.captions import captioned_digits
from genjax.data.digit_sets import digits, digits_28, generator, mnist_on_cifar
from genjax.data.features import ArraySource, DataSet, Feature, column, from_arrays
from genjax.data.glyphs import glyphs
from genjax.data.huggingface import huggingface
from genjax.data.images import images
from genjax.data.splits import sliced, split_name
from genjax.data.stacked import stacked_mnist
from genjax.data.synthetic import synthetic
from genjax.data.tables import table
from genjax.data.text import text
from genjax.data.tfds_sets import UnknownSetError, tfds_set


def captions(
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    of: Mapping[str, Any] | None = None,
) -> DataSet:
    """The captions of another data set, as text for autoregressive models.

    Args:
        split: One of that set's.
        data_dir: As of that set.
        memory_limit_mib: As of that set.
        of: Its ``name`` and its options; None for ``captioned_digits`` of the embedded ``digits``.

    Returns:
        The split, as many rows as that set has: ``x`` ``[T]``, uint8, or int32 if there are more
        than 256 tokens, with the numbers and the vocabulary of its feature ``tokens``.

    Raises:
        ValueError: If it has no captions.
    """
    options = dict(of or {"name": "captioned_digits", "images": "digits"})
    if not isinstance(options.get("name"), str):
        raise ValueError(f"of must have the name of a data set, got {dict(options)}")
    name = options.pop("name")
    whole = load(name, split, data_dir=data_dir, memory_limit_mib=memory_limit_mib, **options)
    tokens = column(whole.source, "tokens") if "tokens" in whole.spec else None
    vocabulary = whole.spec["tokens"].vocabulary if tokens is not None else None
    if tokens is None or vocabulary is None:
        raise ValueError(
            f"{name} has no captions: expected a data set with a feature tokens, such as "
            "captioned_digits, captioned_glyphs, or images with captions=True"
        )
    feature = Feature(tokens.shape[1:], vocabulary.dtype, vocabulary.size, vocabulary=vocabulary)
    source = ArraySource(x=tokens.astype(vocabulary.dtype))
    return DataSet("captions", source, {"x": feature}, origin=whole.origin)


LOADERS: Mapping[str, Callable[..., DataSet]] = {
    "captioned_digits": captioned_digits,
    "captioned_glyphs": captioned_glyphs,
    "captions": captions,
    "digits_28": digits_28,
    "glyphs": glyphs,
    "huggingface": huggingface,
    "images": images,
    "mnist_on_cifar": mnist_on_cifar,
    "npy": npy,
    "stacked_mnist": stacked_mnist,
    "synthetic": synthetic,
    "table": table,
    "text": text,
}
"""What reads files of the user's, or makes rows of what is installed; their further arguments are
``data.options``."""


def load(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    **options: Any,
) -> DataSet:
    """Loads one split of a data set.

    Args:
        name: ``digits``, one of the densities (:data:`DENSITIES`), one of :data:`LOADERS`, which
            have options, or a TFDS name such as ``mnist`` or ``cifar10``.
        split: ``train``, ``test``, or what the set has besides; a part of it may be asked for, such
            as ``train[:90%]``.
        data_dir: Where the files are; of TFDS sets, where they are prepared, None for
            ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets``.
        memory_limit_mib: Sets of at most this many MiB are decoded once and kept in memory. The
            batches are the same either way.
        **options: Further arguments of a loader.

    Returns:
        The split.

    Raises:
        MissingDataError: If it is not there, with the command that prepares it.
        DamagedDataError: If one of its files cannot be read.
        ValueError: If the name or the split is not known.
    """
    if name in LOADERS:
        shared: dict[str, Any] = dict(data_dir=data_dir, memory_limit_mib=memory_limit_mib)
        return sliced(LOADERS[name](split_name(split), **shared, **options), split)
    if options:
        raise ValueError(f"{name} has no options, got {', '.join(options)}")
    if name in DENSITIES or name == "digits":
        part = split_name(split)
        if part not in ("train", "test"):
            raise ValueError(f"{name} has the splits train and test, got {split!r}")
        return sliced(digits(part) if name == "digits" else _density(name, part), split)
    try:
        return tfds_set(name, split, data_dir, memory_limit_mib)
    except UnknownSetError:
        raise _unknown(name) from None


def _unknown(name: str) -> ValueError:
    """What is said of a name that no data set has."""
    known = ["digits", *sorted(LOADERS), *sorted(DENSITIES)]
    near = difflib.get_close_matches(name.strip().lower(), [*known, "mnist", "cifar10"], n=1)
    guess = f", did you mean {near[0]!r}?" if near else ":"
    return ValueError(
        f"unknown data set {name[:60]!r}{guess} expected {', '.join(known)}, or the name of a TFDS "
        "image set"
    )


def _swirl(rng: np.random.Generator, n: int) -> np.ndarray:
    """A spiral of one and a half turns with Gaussian noise."""
    turn = 1.5 * np.pi * (1.0 + 2.0 * rng.random(n))
    points = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / 10.0
    return points + 0.05 * rng.standard_normal((n, 2))


def _circle(radius: float) -> np.ndarray:
    """Eight distinct points on a circle."""
    angle = np.arange(8) * np.pi / 4.0
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _lattice(distance: float) -> np.ndarray:
    """Twenty-five points, five by five, about the origin."""
    side = distance * np.arange(-2.0, 3.0)
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)


# Eight Gaussians on a circle: a wide one of radius 1, and the narrow one of the mode collapse
# literature (Metz et al., arXiv:1611.02163) of radius 2. The grid of twenty-five is that of PacGAN
# (Lin et al., arXiv:1712.04086).
MIXTURES: Mapping[str, tuple[np.ndarray, float]] = {
    "eight_gaussians": (_circle(1.0), 0.1),
    "grid": (_lattice(2.0), 0.05),
    "ring": (_circle(2.0), 0.02),
}


def _mixture(name: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """Equally weighted Gaussians."""
    centres, std = MIXTURES[name]
    return centres[rng.integers(len(centres), size=n)] + std * rng.standard_normal((n, 2))


def _checkerboard(rng: np.random.Generator, n: int) -> np.ndarray:
    """Uniform on the eight black squares of a 4x4 board on [-1, 1]^2."""
    row, half = rng.integers(4, size=n), rng.integers(2, size=n)
    corner = np.stack([2 * half + row % 2, row], axis=1)
    return (corner + rng.random((n, 2))) / 2.0 - 1.0


def _two_moons(rng: np.random.Generator, n: int) -> np.ndarray:
    """Two interleaved half circles with Gaussian noise."""
    angle, upper = np.pi * rng.random(n), rng.integers(2, size=n) == 1
    x = np.where(upper, np.cos(angle), 1.0 - np.cos(angle)) - 0.5
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
    return np.stack([x, y], axis=1) + 0.05 * rng.standard_normal((n, 2))


DENSITIES: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "checkerboard": _checkerboard,
    **{name: functools.partial(_mixture, name) for name in MIXTURES},
    "swirl": _swirl,
    "two_moons": _two_moons,
}


def _density(name: str, split: str) -> DataSet:
    """100,000 fixed draws to train on, 10,000 others to test."""
    seed, count = (1, 100_000) if split == "train" else (2, 10_000)
    points = DENSITIES[name](generator(seed), count).astype(np.float32)
    return from_arrays(name, x=points, mixture=MIXTURES.get(name))
