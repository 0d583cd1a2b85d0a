"""A folder of pictures."""

import functools
import os
from collections.abc import Sequence

import numpy as np

from genjax.data.caption_files import caption_feature, caption_rows, captions_of
from genjax.data.errors import MissingDataError
from genjax.data.features import DataSet, Feature
from genjax.data.pictures import Channels, Decoder, PictureSource, kept
from genjax.data.splits import held_out, walk

_SPLITS = ("train", "test", "val", "valid", "validation")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def images(
    split: str,
    *,
    data_dir: str | None,
    memory_limit_mib: int = 2048,
    size: int | None = None,
    channels: Channels = 3,
    holdout: float = 0.1,
    captions: bool = False,
    caption_column: str | None = None,
    caption_length: int | None = None,
    min_count: int = 1,
    tokenizer: str | None = None,
) -> DataSet:
    """A folder of pictures; its sub-folders are classes, in the order of their names.

    If the folder has a sub-folder ``train``, splits are sub-folders; else a share of all pictures
    is held out as ``test``, always the same ones. Pictures directly in the folder of a split have
    no class; either all pictures lie in sub-folders or none does.

    Args:
        split: ``train`` or ``test``, or the name of a sub-folder with pictures of its own.
        data_dir: The folder.
        memory_limit_mib: Pictures of more than this many MiB are decoded as they are needed.
        size: Pixels of a side: pictures are scaled to it, and cut to the square in their middle.
            None if they have one size already.
        channels: 1 for grey levels, 3 for colours, 4 for colours and opacity.
        holdout: Share of the pictures held out where there are no folders ``train`` and ``test``.
        captions: Whether pictures have captions, in a file ``captions.csv``, ``captions.jsonl``,
            ``metadata.csv`` or ``metadata.jsonl`` in the folder or in that of each split, or in a
            ``.txt`` beside each picture. A picture with several captions is several rows.
        caption_column: Column of the captions; None for ``text`` or ``caption``. The path of the
            picture is in ``file_name``.
        caption_length: Tokens of a caption; longer ones are cut. None for those of the longest
            caption of the training split and one of padding.
        min_count: Words that are rarer than this in the training split are unknown in all splits.
        tokenizer: A ``tokenizer.json`` of Hugging Face's package ``tokenizers``, whose tokens
            captions are of; None for the words of the training split.

    Returns:
        The split, called as the folder is: ``x`` uint8 ``[H, W, channels]``; ``label`` where there
        are classes; and of captions ``tokens``, int32 ``[T]``, with the vocabulary of the training
        split.

    Raises:
        MissingDataError: If there are no pictures, or no captions.
        DamagedDataError: If a file cannot be read.
        ValueError: If an argument is out of range, the pictures have several sizes, or pictures and
            captions do not belong to each other.
    """
    if data_dir is None:
        raise ValueError("images needs data_dir: the folder with pictures")
    if not captions and (caption_column or caption_length or tokenizer or min_count != 1):
        raise ValueError("options of captions were given, but data.options.captions is not True")
    folder = os.path.abspath(os.path.expanduser(data_dir))
    decode = Decoder(size, channels)
    root, every, names = _found(folder, split)
    has_splits = root != folder
    chosen = np.arange(len(every)) if has_splits else held_out(len(every), holdout, split)
    files = [every[i] for i in chosen]
    if not files:
        raise ValueError(f"{root} has too few pictures to hold some out")
    features: dict[str, np.ndarray] = {}
    spec: dict[str, Feature] = {}
    if names:
        features["label"] = _labels(files, names, root, folder)
        count = len(names)
        spec["label"] = Feature((), np.dtype(np.int32), None, count, tuple(names))
    paths = [os.path.join(root, file) for file in files]
    shape = decode.shape(paths)
    if captions:
        read = functools.partial(captions_of, folder=folder, column=caption_column)
        said = read(root, every)
        trained_on = said
        if split != "train" and has_splits:
            trained_on = read(os.path.join(folder, "train"), _found(folder, "train")[1])
        elif not has_splits:
            trained_on = [said[i] for i in held_out(len(every), holdout, "train")]
        spec["tokens"] = caption_feature(
            trained_on, tokenizer=tokenizer, length=caption_length, min_count=min_count
        )
        tokens, rows = caption_rows([said[i] for i in chosen], spec["tokens"], f"{root}, {split}")
        features = {**{name: of_all[rows] for name, of_all in features.items()}, "tokens": tokens}
        paths = [paths[i] for i in rows]
    source = PictureSource(paths.__getitem__, len(paths), decode, shape, **features)
    spec = {"x": Feature(shape, np.dtype(np.uint8), num_levels=256), **spec}
    return DataSet(os.path.basename(folder), kept(source, shape, memory_limit_mib), spec)


def _found(folder: str, split: str) -> tuple[str, list[str], list[str]]:
    """The folder of a split, the pictures in it, and the names of the classes."""
    if not os.path.isdir(folder):
        raise MissingDataError(f"there is no folder {folder}")
    has_splits = os.path.isdir(os.path.join(folder, "train"))
    root = os.path.join(folder, split) if has_splits else folder
    if has_splits and not os.path.isdir(root):
        raise MissingDataError(f"there is no folder {root} beside {folder}/train")
    files = _pictures_in(root)
    if not files:
        raise MissingDataError(
            f"there are no pictures in {root}; expected files that end in {', '.join(SUFFIXES)}, "
            "in sub-folders if they have classes"
        )
    # Classes are those of the training split, whatever this one is.
    names = _classes(_pictures_in(os.path.join(folder, "train")) if has_splits else files, folder)
    if not has_splits and any(name.lower() in _SPLITS for name in names):
        found_split = next(name for name in names if name.lower() in _SPLITS)
        raise ValueError(
            f"{folder}/{found_split} looks like a split, but there is no {folder}/train: call the "
            "folders of splits train and test, or rename the class"
        )
    return root, files, names


def _labels(files: Sequence[str], names: Sequence[str], root: str, folder: str) -> np.ndarray:
    """Class ids of pictures."""
    found = [_class_of(file) for file in files]
    unknown = sorted({name for name in found if name not in names})
    if unknown:
        what = f"a class {unknown[0]!r}" if unknown[0] else "pictures without a class"
        raise ValueError(f"{root} has {what} that {folder}/train has not")
    return np.array([names.index(name) for name in found], np.int32)


def _pictures_in(root: str) -> list[str]:
    """Paths of pictures, relative to ``root`` and sorted; hidden files and folders are left out."""
    found = []
    for place, files in walk(root):
        for file in files:
            if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                found.append(os.path.relpath(os.path.join(place, file), root))
    return sorted(found)


def _class_of(file: str) -> str:
    """The first folder of a relative path; empty if there is none."""
    first, separator, _ = file.partition(os.sep)
    return first if separator else ""


def _classes(files: Sequence[str], folder: str) -> list[str]:
    """Names of classes, empty if there are none."""
    names = sorted({_class_of(file) for file in files})
    if names == [""]:
        return []
    if "" in names:
        loose = next(file for file in files if not _class_of(file))
        raise ValueError(
            f"{folder} has pictures in sub-folders, which are classes, and others in none, such as "
            f"{loose}; put all into sub-folders or none"
        )
    return names
