"""Arrays that the user brings: ``.npy`` files, which may stay on disk, or ``.npz``."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from genjax.data.errors import MissingDataError
from genjax.data.features import ArraySource, DataSet, Feature, Source, as_float32, class_ids


class MappedSource:
    """Rows of files that stay on disk, read each time they are asked for.

    Args:
        dtype: Type that ``x`` is given in.
        **arrays: Features of all examples, each ``[N, ...]``.
    """

    def __init__(self, dtype: np.dtype, **arrays: np.ndarray):
        self.arrays = arrays
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.arrays["x"])

    def rows(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The examples at ``indices``, stacked."""
        rows = {name: np.asarray(array[indices]) for name, array in self.arrays.items()}
        return {**rows, "x": rows["x"].astype(self.dtype)}

    def column(self, name: str) -> np.ndarray | None:
        """A feature of all examples; not ``x``, which may be larger than memory."""
        return None if name == "x" else self.arrays[name]


def npy(split: str, *, data_dir: str | None, memory_limit_mib: int = 2048) -> DataSet:
    """Arrays in a folder: ``<split>.npy`` and ``<split>_label.npy``, or ``<split>.npz``.

    Args:
        split: Name of the file.
        data_dir: The folder. ``<split>.npy`` holds real numbers or 8-bit levels ``[N, ...]``, and
            ``<split>_label.npy`` class ids ``[N]``, if there are classes; ``<split>.npz`` the same
            as ``x`` and ``label``.
        memory_limit_mib: Larger ``.npy`` files stay on disk.

    Returns:
        The split, called as the folder is.

    Raises:
        MissingDataError: If there is no such file.
        ValueError: If a file holds something else.
    """
    if data_dir is None:
        raise ValueError("npy needs data_dir: the folder with train.npy and test.npy")
    folder = os.path.abspath(os.path.expanduser(data_dir))
    place, x, label = _opened(folder, split)
    if x.ndim < 2 or not (x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating)):
        raise ValueError(
            f"{place} must hold real numbers or 8-bit levels [N, ...], got {x.dtype} "
            f"{list(x.shape)}{_hint(x)}"
        )
    if not len(x):
        raise ValueError(f"{place} has no rows")
    arrays: dict[str, np.ndarray] = {"x": x}
    if label is not None:
        where = place if place.endswith(".npz") else os.path.join(folder, f"{split}_label.npy")
        arrays["label"] = class_ids(label, len(x), f"the labels in {where}")
    dtype = x.dtype if x.dtype == np.uint8 else np.dtype(np.float32)
    source: Source = MappedSource(dtype, **arrays)
    if x.size * dtype.itemsize <= memory_limit_mib * 2**20:
        arrays["x"] = np.asarray(x) if x.dtype == np.uint8 else as_float32(x, place)
        source = ArraySource(**arrays)
    spec = {"x": Feature(x.shape[1:], dtype, num_levels=256 if dtype == np.uint8 else None)}
    if "label" in arrays:
        spec["label"] = Feature((), np.dtype(np.int32), num_classes=int(arrays["label"].max()) + 1)
    return DataSet(os.path.basename(folder), source, spec)


def _opened(folder: str, split: str) -> tuple[str, np.ndarray, np.ndarray | None]:
    """Path of the file, its ``x``, and the labels if there are any."""
    archive = os.path.join(folder, f"{split}.npz")
    place = os.path.join(folder, f"{split}.npy")
    if not os.path.exists(place) and os.path.exists(archive):
        file = _read(archive)
        if not isinstance(file, Mapping) or "x" not in file:
            raise ValueError(f"{archive} must be an archive of arrays with an x [N, ...]")
        try:
            label = file["label"] if "label" in file else None
            return archive, _array(archive, file["x"]), label
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{archive} cannot be read: {_reason(error)}") from error
    if not os.path.exists(place):
        raise MissingDataError(
            f"there is no file {place} (nor {split}.npz); expected an array [N, ...] of real "
            "numbers or 8-bit levels, as numpy.save writes it"
        )
    x = _array(place, _read(place))
    label_place = os.path.join(folder, f"{split}_label.npy")
    if not os.path.exists(label_place):
        return place, x, None
    return place, x, np.asarray(_array(label_place, _read(label_place)))


def _read(place: str) -> Any:
    try:
        return np.load(place, mmap_mode="r")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{place} cannot be read as an array: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if "allow_pickle" in reason or "Python objects" in reason:
        return "it holds Python objects, not numbers; save an array of one numeric type"
    return reason


def _array(place: str, content: Any) -> np.ndarray:
    """The array of a file, unless the file is an archive by another name."""
    if not isinstance(content, np.ndarray):
        raise ValueError(
            f"{place} is an .npz archive of {', '.join(content)}, not a single array: name it .npz "
            "(with x and label), or save the array with numpy.save"
        )
    return content


def _hint(x: np.ndarray) -> str:
    if np.issubdtype(x.dtype, np.integer) or x.dtype == bool:
        return "; convert grey levels to uint8, other whole numbers to float32"
    return ""
