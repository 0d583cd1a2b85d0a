"""Pictures in Parquet or Arrow files, as the Hugging Face hub and its ``datasets`` write them."""

import json
import os
import re
from typing import Any

import numpy as np

from genjax.data.caption_files import caption_feature, caption_rows
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
    caption_length: int | None = None,
    captions: bool = False,
    min_count: int = 1,
    tokenizer: str | None = None,
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
        caption: Column of texts; None for none, or with ``captions`` for ``text`` or ``caption``.
            Without ``captions`` they (of lists of texts, the first) come as their UTF-8 bytes, cut
            or filled up with zeros.
        caption_length: Bytes or tokens of a caption; None for 256 bytes, or for the tokens of the
            longest caption of the training split and one of padding.
        captions: Whether captions come as tokens, as of the data set ``images``. Of a list of texts
            each is a row.
        min_count: Words that are rarer than this in the training split are unknown in all splits.
        tokenizer: A ``tokenizer.json`` of Hugging Face's package ``tokenizers``, whose tokens
            captions are of; None for the words of the training split.
        size: Pixels of a side: pictures are scaled to it, and cut to the square in their middle.
            None if they have one size already.
        channels: 1 for grey levels, 3 for colours, 4 for colours and opacity.
        holdout: Share of the rows that is held out where ``train`` is the only split.

    Returns:
        The split, called as the folder is: ``x`` uint8 ``[H, W, channels]``, ``label`` where there
        are classes, and if asked for ``caption`` uint8 ``[caption_length]``, or ``tokens`` int32
        ``[T]``, with the vocabulary of the training split.

    Raises:
        MissingDataError: If there is no such split.
        DamagedDataError: If a file or a picture cannot be read.
        ValueError: If a column does not exist or holds something else.
    """
    if data_dir is None:
        raise ValueError("huggingface needs data_dir: the folder of .parquet or .arrow files")
    if caption_length is not None and caption_length < 1:
        raise ValueError(f"caption_length must be at least 1, got {caption_length}")
    if not captions and (tokenizer or min_count != 1):
        raise ValueError("options of captions were given, but data.options.captions is not True")
    place = os.path.abspath(os.path.expanduser(data_dir))
    content, alone = _split_of(place, split)
    rows = held_out(len(content), holdout, split) if alone else np.arange(len(content))
    if not len(rows):
        raise ValueError(f"the split {split} of {place} has no rows")
    if label is None and "label" in content.column_names:
        label = "label"
    if captions and caption is None:
        caption = "text" if "text" in content.column_names else "caption"
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
    if caption is not None and captions:
        said = _said(content.column(caption), rows, place)
        train = said if split == "train" else _said_in_training(place, caption, holdout)
        spec["tokens"] = caption_feature(
            train, tokenizer=tokenizer, length=caption_length, min_count=min_count
        )
        tokens, picture = caption_rows(said, spec["tokens"], f"{place}, {split}")
        features = {**{n: of_all[picture] for n, of_all in features.items()}, "tokens": tokens}
        rows = rows[picture]
    elif caption is not None:
        length = caption_length or 256
        features["caption"] = _bytes_of(content.column(caption), rows, length)
        spec["caption"] = Feature((length,), np.dtype(np.uint8))
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


def _said_in_training(place: str, caption: str, holdout: float) -> list[list[str]]:
    """The captions of the training split."""
    content, alone = _split_of(place, "train")
    if caption not in content.column_names:
        raise ValueError(f"the training split of {place} has no column {caption!r}")
    count = len(content)
    rows = held_out(count, holdout, "train") if alone else np.arange(count)
    return _said(content.column(caption), rows, place)


def _said(column: Any, rows: np.ndarray, place: str) -> list[list[str]]:
    """The captions of some rows, each with single spaces between words."""
    found = []
    for row in rows:
        cell = column[int(row)].as_py()
        texts = cell if isinstance(cell, list) else [cell]
        if not all(isinstance(text, str | None) for text in texts):
            raise ValueError(f"the captions of {place} are {column.type}: expected texts")
        texts = [" ".join((text or "").split()) for text in texts]
        if not texts or not all(texts):
            raise ValueError(f"row {row + 1} of {place} has an empty caption: leave it out")
        found.append(texts)
    return found


def _bytes_of(column: Any, rows: np.ndarray, length: int) -> np.ndarray:
    found = np.zeros((len(rows), length), np.uint8)
    for i, row in enumerate(rows):
        text = column[int(row)].as_py()
        text = text[0] if isinstance(text, list) and text else text
        encoded = str(text or "").encode()[:length]
        found[i, : len(encoded)] = np.frombuffer(encoded, np.uint8)
    return found
