"""Image sets of ``tensorflow_datasets``, as they lie prepared on disk."""

import functools
import os
import re
from typing import Any, cast

import numpy as np

from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import ArraySource, DataSet, Feature, Source, class_ids


class UnknownSetError(ValueError):
    """There is no data set of this name."""


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


@functools.lru_cache(maxsize=4)
def tfds_set(name: str, split: str, data_dir: str | None, memory_limit_mib: int) -> DataSet:
    """One split of an image set of ``tensorflow_datasets``.

    Args:
        name: Its name there.
        split: As it is written there.
        data_dir: Where it is prepared; ``$TFDS_DATA_DIR`` or ``~/tensorflow_datasets`` if None.
        memory_limit_mib: Sets of at most this many MiB are decoded once and kept in memory.

    Returns:
        The split.

    Raises:
        UnknownSetError: If there is no set of this name.
        MissingDataError: If it is not prepared.
        ValueError: If it is not one of 8-bit images of one size.
    """
    # Imported here: the other sets need none of it.
    import tensorflow_datasets as tfds
    from absl import logging

    if not re.fullmatch(r"[A-Za-z_]\w*(/.+)?", name, re.ASCII):  # tfds would not parse it
        raise UnknownSetError(name)
    place = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    directory = os.path.expanduser(place)
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of each folder it finds empty
    try:
        source = tfds.data_source(name, split=split, data_dir=directory, download=False)
    except tfds.core.registered.DatasetNotFoundError:
        raise UnknownSetError(name) from None
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
