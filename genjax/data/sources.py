"""Data sets by name: embedded ones, densities of the plane, TFDS image sets, own files."""

import difflib
import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from genjax.data.arrays import npy
from genjax.data.captions import captioned_digits
from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import ArraySource, DataSet, Feature, Source, class_ids, from_arrays
from genjax.data.glyphs import glyphs
from genjax.data.huggingface import huggingface
from genjax.data.images import images
from genjax.data.splits import sliced, split_name
from genjax.data.tables import table
from genjax.data.text import text


class TfdsSource:
    """Examples decoded from prepared array_record files each time they are asked for."""

    def __init__(self, source: Any, has_label: bool):
        self.source = source
        self.has_label = has_label

    def __len__(self) -> int:
        return len(self.source)

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked.

        Raises:
            DamagedDataError: If a file was truncated or changed since it was written.
        """
        try:
            examples = self.source.__getitems__([int(i) for i in indices])
        except RuntimeError as error:  # what array_record raises, without the name of the file
            file = self._damaged_file()
            if file is None:
                raise
            raise DamagedDataError(
                f"the data file {file} is damaged or incomplete ({str(error).splitlines()[0]}); "
                "copy it anew or prepare the set again (scripts/prepare_data.py)"
            ) from error
        rows = {"x": np.stack([example["image"] for example in examples])}
        if self.has_label:
            labels = np.array([example["label"] for example in examples])
            rows["label"] = class_ids(labels, len(labels), "the labels")
        return rows

    def _damaged_file(self) -> str | None:
        """The first file that cannot be read to the end."""
        from array_record.python import array_record_module

        for path in self.source.dataset_info.splits[str(self.source.split)].filepaths:
            reader = array_record_module.ArrayRecordReader(os.fspath(path))
            count = reader.num_records()
            try:
                for start in range(0, count, 1024):
                    reader.read(start, min(start + 1024, count))
            except RuntimeError:
                return os.fspath(path)
            if not reader.ok():
                return os.fspath(path)
        return None


LOADERS: Mapping[str, Callable[..., DataSet]] = {
    "captioned_digits": captioned_digits,
    "glyphs": glyphs,
    "huggingface": huggingface,
    "images": images,
    "npy": npy,
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
        return sliced(_digits(part) if name == "digits" else _density(name, part), split)
    return _tfds(name, split, data_dir, memory_limit_mib)


def _unknown(name: str) -> ValueError:
    """What is said of a name that no data set has."""
    known = ["digits", *sorted(LOADERS), *sorted(DENSITIES)]
    near = difflib.get_close_matches(name.strip().lower(), [*known, "mnist", "cifar10"], n=1)
    guess = f", did you mean {near[0]!r}?" if near else ":"
    return ValueError(
        f"unknown data set {name[:60]!r}{guess} expected {', '.join(known)}, or the name of a TFDS "
        "image set"
    )


@functools.lru_cache(maxsize=4)
def _tfds(name: str, split: str, data_dir: str | None, memory_limit_mib: int) -> DataSet:
    # Imported here: the other sets need none of it.
    import tensorflow_datasets as tfds
    from absl import logging

    if not re.fullmatch(r"[A-Za-z_]\w*(/.+)?", name, re.ASCII):  # tfds would not parse it
        raise _unknown(name)
    place = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    directory = os.path.expanduser(place)
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of each folder it finds empty
    try:
        source = tfds.data_source(name, split=split, data_dir=directory, download=False)
    except tfds.core.registered.DatasetNotFoundError:
        raise _unknown(name) from None
    except (NotImplementedError, KeyError, FileNotFoundError) as error:
        raise MissingDataError(
            f"no data set {name!r} is prepared in {directory}; prepare it with: "
            f"python scripts/prepare_data.py --name={name} --data_dir={place}"
        ) from error
    finally:
        logging.set_verbosity(level)
    source = cast(Any, source)
    features = source.dataset_info.features
    if "image" not in features or None in features["image"].shape:
        raise ValueError(f"{name} is not a set of images of one size: its features are {features}")
    if features["image"].np_dtype != np.uint8:
        raise ValueError(
            f"{name} has images of {np.dtype(features['image'].np_dtype)}, not of 8 bits"
        )
    label = features["label"] if "label" in features else None
    num_classes = getattr(label, "num_classes", None)
    stream = TfdsSource(source, has_label=num_classes is not None)
    shape = tuple(features["image"].shape)
    kept: Source = stream
    if len(stream) * int(np.prod(shape)) <= memory_limit_mib * 2**20:
        chunks = [
            stream.rows(np.arange(start, min(start + 4096, len(stream))))
            for start in range(0, len(stream), 4096)
        ]
        kept = ArraySource(**{k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]})
    spec = {"x": Feature(shape, np.dtype(np.uint8), num_levels=256)}
    if num_classes is not None:
        spec["label"] = Feature((), np.dtype(np.int32), num_classes=num_classes)
    return DataSet(name, kept, spec)


def _digits(split: str) -> DataSet:
    """1,797 handwritten digits, 8x8 pixels, 17 grey levels; 1,437 to train and 360 to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = _generator(0).permutation(len(digits.images))
    kept = order[360:] if split == "train" else order[:360]
    return from_arrays(
        "digits",
        num_levels=17,
        x=digits.images[kept].astype(np.uint8)[..., None],
        label=digits.target[kept].astype(np.int32),
    )


def _generator(*seed: int) -> np.random.Generator:
    # Philox: counter-based, the same stream on every platform.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))


def _swirl(rng: np.random.Generator, n: int) -> np.ndarray:
    """A spiral of one and a half turns with Gaussian noise."""
    turn = 1.5 * np.pi * (1.0 + 2.0 * rng.random(n))
    points = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / 10.0
    return points + 0.05 * rng.standard_normal((n, 2))


def _circle(radius: float) -> np.ndarray:
    """Eight distinct points on a circle."""
    angle = np.arange(8) * np.pi / 4.0
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


# Eight Gaussians on a circle: a wide one of radius 1, and the narrow one of the mode collapse
# literature (Metz et al., arXiv:1611.02163) of radius 2.
MIXTURES: Mapping[str, tuple[np.ndarray, float]] = {
    "eight_gaussians": (_circle(1.0), 0.1),
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
    points = DENSITIES[name](_generator(seed), count).astype(np.float32)
    return from_arrays(name, x=points, mixture=MIXTURES.get(name))
