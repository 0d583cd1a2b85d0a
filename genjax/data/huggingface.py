"""Pictures in Parquet or Arrow files, as the Hugging Face hub and its ``datasets`` write them."""

import json
import os
import re
from typing import Any

import numpy as np

from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import DataSet, Feature, class_ids
from genjax.data.pictures import Channels, Decoder, PictureSource, kept
from genjax.data.splits import held_out, walk


class _Cells:
    """Pictures in the cells of a column: by position, bytes or path."""

    def __init__(self, column: Any, rows: np.ndarray, folder: str):
        self._column = column
        self._rows = rows
        self._folder = folder

    def __call__(self, index: int) -> str | bytes:
        cell = self._column[int(self._rows[index])].as_py()
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, str):
            return os.path.join(self._folder, cell)
        if not isinstance(cell, bytes | None):
            raise ValueError(
                f"the pictures of {self._folder or 'the file'} are {type(cell).__name__}s: "
                "expected encoded bytes, paths, or records with bytes or path"
            )
        if not cell:
            raise DamagedDataError(f"row {self._rows[index] + 1} of {self._folder} has no picture")
        return bytes(cell)


def huggingface(
    split: str,
    *,
    data_dir: str | None,
    memory_limit_mib: int = 2048,
    image: str = "image",
    label: str | None = None,
    caption: str | None = None,
    caption_length: int = 256,
    size: int | None = None,
    channels: Channels = 3,
    holdout: float = 0.1,
) -> DataSet:
    """Pictures of a data set that was downloaded from the hub or written by ``save_to_disk``.

    Encoded pictures of Parquet files are held in memory, those of Arrow files stay on disk.

    Args:
        split: Name of a split: of a sub-folder, or what names of files begin with
            (``train-00000-of-00002.parquet``). If there is none but ``train``, a share of it is
            held out as ``test``.
        data_dir: The folder, or a single file.
        memory_limit_mib: Pictures of more than this many MiB are decoded as they are needed.
        image: Column of pictures: encoded bytes, paths, or records of both.
        label: Column of class ids; None for ``label`` if there is one.
        caption: Column of texts (of lists of texts, the first); None for none. They come as their
            UTF-8 bytes, cut or filled up with zeros.
        caption_length: Bytes of a caption.
        size: Pixels of a side: pictures are scaled to it, and cut to the square in their middle.
            None if they have one size already.
        channels: 1 for grey levels, 3 for colours, 4 for colours and opacity.
        holdout: Share of the rows that is held out where ``train`` is the only split.

    Returns:
        The split, called as the folder is: ``x`` uint8 ``[H, W, channels]``, ``label`` where there
        are classes, and ``caption`` uint8 ``[caption_length]`` if asked for.

    Raises:
        MissingDataError: If there is no such split.
        DamagedDataError: If a file or a picture cannot be read.
        ValueError: If a column does not exist or holds something else.
    """
    if data_dir is None:
        raise ValueError("huggingface needs data_dir: the folder of .parquet or .arrow files")
    if caption_length < 1:
        raise ValueError(f"caption_length must be at least 1, got {caption_length}")
    place = os.path.abspath(os.path.expanduser(data_dir))
    content, alone = _split_of(place, split)
    rows = held_out(len(content), holdout, split) if alone else np.arange(len(content))
    if not len(rows):
        raise ValueError(f"the split {split} of {place} has no rows")
    if label is None and "label" in content.column_names:
        label = "label"
    for name in (image, label, caption):
        if name is not None and name not in content.column_names:
            raise ValueError(
                f"{place} has no column {name!r}; it has {', '.join(content.column_names)}; set "
                "data.options.image, label or caption, or take data.name 'table' for numbers"
            )
    features, spec = {}, {}
    if label is not None:
        ids = _ids(content.column(label), f"column {label!r} of {place}")
        known = _class_names(content, label)
        count = len(known) if known else int(ids.max()) + 1
        spec["label"] = Feature(
            (), np.dtype(np.int32), num_classes=count, class_names=known or None
        )
        features["label"] = ids[rows]
    if caption is not None:
        features["caption"] = _bytes_of(content.column(caption), rows, caption_length)
        spec["caption"] = Feature((caption_length,), np.dtype(np.uint8))
    cells = _Cells(content.column(image), rows, place if os.path.isdir(place) else "")
    decode = Decoder(size, channels)
    shape = decode.shape([cells(i) for i in range(min(64, len(rows)))])
    source = PictureSource(cells, len(rows), decode, shape, **features)
    spec = {"x": Feature(shape, np.dtype(np.uint8), num_levels=256), **spec}
    return DataSet(os.path.basename(place), kept(source, shape, memory_limit_mib), spec)


def _split_of(place: str, split: str) -> tuple[Any, bool]:
    """The table of a split, and whether it is to be divided, as there is no other."""
    if os.path.isfile(place):
        return _read([place]), True
    files: dict[str, list[str]] = {}
    for folder, names in walk(place):
        for name in names:
            if not name.endswith((".parquet", ".arrow")) or name.startswith("cache-"):
                continue
            inner = os.path.relpath(folder, place)
            called = re.split(r"[-.]", name)[0]
            if called in ("data", "dataset") or called.isdigit():  # what it is not called after
                called = "train" if inner == "." else os.path.basename(folder)
            files.setdefault(called, []).append(os.path.join(folder, name))
    if not files:
        raise MissingDataError(f"there are no .parquet or .arrow files in {place}")
    if split in files:
        return _read(files[split]), list(files) == ["train"]
    if split == "test" and list(files) == ["train"]:
        return _read(files["train"]), True
    raise MissingDataError(
        f"{place} has no split {split!r}; it has {', '.join(sorted(files))}: set data.train_split "
        "and data.test_split, which may be parts such as train[:90%]"
    )


def _read(files: list[str]) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    parts = []
    for file in files:
        try:
            if file.endswith(".parquet"):
                parts.append(parquet.read_table(file))
                continue
            mapped = pa.memory_map(file)
            try:
                parts.append(pa.ipc.open_stream(mapped).read_all())
            except pa.ArrowInvalid:
                parts.append(pa.ipc.open_file(mapped).read_all())
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DamagedDataError(f"{file} cannot be read: {reason}") from error
    try:
        return pa.concat_tables(parts)
    except pa.ArrowException as error:
        raise ValueError(f"{files[0]} and the other files differ in their columns") from error


def _ids(column: Any, where: str) -> np.ndarray:
    """Class ids of all rows."""
    import pyarrow as pa

    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise ValueError(f"{where} has no label in row {row + 1}: leave such rows out")
    if not pa.types.is_integer(column.type):
        raise ValueError(
            f"{where} holds {column.type}: expected class ids 0, 1, ...; encode it so, or name "
            "another column in data.options.label"
        )
    return class_ids(column.to_numpy(), len(column), where)


def _class_names(content: Any, label: str) -> tuple[str, ...] | None:
    """Names of the classes, if the files have them."""
    described = (content.schema.metadata or {}).get(b"huggingface")
    if described is None:
        return None
    try:
        names = json.loads(described)["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names))


def _bytes_of(column: Any, rows: np.ndarray, length: int) -> np.ndarray:
    found = np.zeros((len(rows), length), np.uint8)
    for i, row in enumerate(rows):
        text = column[int(row)].as_py()
        text = text[0] if isinstance(text, list) and text else text
        encoded = str(text or "").encode()[:length]
        found[i, : len(encoded)] = np.frombuffer(encoded, np.uint8)
    return found
