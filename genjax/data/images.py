"""A folder of pictures."""

import os
from collections.abc import Sequence

import numpy as np

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

    Returns:
        The split, called as the folder is: ``x`` uint8 ``[H, W, channels]``, and ``label`` where
        there are classes.

    Raises:
        MissingDataError: If there are no pictures.
        DamagedDataError: If a picture cannot be decoded.
        ValueError: If an argument is out of range, or the pictures have several sizes.
    """
    if data_dir is None:
        raise ValueError("images needs data_dir: the folder with pictures")
    folder = os.path.abspath(os.path.expanduser(data_dir))
    if not os.path.isdir(folder):
        raise MissingDataError(f"there is no folder {folder}")
    decode = Decoder(size, channels)
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
    if not has_splits:
        files = [files[i] for i in held_out(len(files), holdout, split)]
    if not files:
        raise ValueError(f"{root} has too few pictures to hold some out")
    labels = None
    if names:
        found = [_class_of(file) for file in files]
        unknown = sorted({name for name in found if name not in names})
        if unknown:
            what = f"a class {unknown[0]!r}" if unknown[0] else "pictures without a class"
            raise ValueError(f"{root} has {what} that {folder}/train has not")
        labels = np.array([names.index(name) for name in found], np.int32)
    paths = [os.path.join(root, file) for file in files]
    shape = decode.shape(paths)
    features = {} if labels is None else {"label": labels}
    source = PictureSource(paths.__getitem__, len(paths), decode, shape, **features)
    spec = {"x": Feature(shape, np.dtype(np.uint8), num_levels=256)}
    if names:
        spec["label"] = Feature(
            (), np.dtype(np.int32), num_classes=len(names), class_names=tuple(names)
        )
    return DataSet(os.path.basename(folder), kept(source, shape, memory_limit_mib), spec)


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
