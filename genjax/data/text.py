"""Text as sequences of bytes, characters or words."""

import dataclasses
import hashlib
import os
import platform

from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import DataSet, from_arrays
from genjax.data.splits import walk
from genjax.data.vocabulary import Tokens, vocabulary_of


def text(
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    tokens: Tokens = "character",
    length: int = 256,
    min_count: int = 2,
    holdout: float = 0.1,
) -> DataSet:
    """Windows of a text, one after the other: of ``.txt`` files, or of what Python ships.

    Args:
        split: ``train`` or ``test``, or the name of a file in the folder, without ending.
        data_dir: A file in UTF-8, or a folder: with ``train.txt`` and ``test.txt``, or with any
            ``.txt`` files, also in sub-folders, which are joined by line breaks in the order of
            their paths. None for the help texts of Python's own documentation that come with it
            (``pydoc_data.topics``), in the order of their names, each paragraph where it first
            occurs; they differ between versions of Python.
        memory_limit_mib: Larger texts are refused.
        tokens: What an entry is: a ``"byte"`` of UTF-8; a ``"character"``; or a ``"word"``: a run
            of letters, digits and underscores, or another character, either with the space before
            it if there is one, or white space.
        length: Entries of an example. What is left at the end of a split is left out.
        min_count: Characters and words that are rarer than this in the training split are unknown:
            they have the number 0 in all splits.
        holdout: Share of the characters of a text without splits of its own that is held out as
            ``test``, at its end.

    Returns:
        The split, called as the file or folder is, or ``text``: ``x`` ``[length]``, uint8, or int32
        if there are more than 256 tokens, and the vocabulary of the training split.

    Raises:
        MissingDataError: If there is no such file, or this Python has no such texts.
        DamagedDataError: If a file is not UTF-8.
        ValueError: If an argument is out of range, or the text is shorter than one example.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if not 0.0 < holdout < 1.0:
        raise ValueError(f"holdout must be between 0 and 1, got {holdout}")
    place = None if data_dir is None else os.path.abspath(os.path.expanduser(data_dir))
    name = "text" if place is None else os.path.splitext(os.path.basename(place))[0]
    if place is not None and os.path.exists(os.path.join(place, "train.txt")):
        train = read_text(os.path.join(place, "train.txt"))
        own = train if split == "train" else read_text(os.path.join(place, f"{split}.txt"))
    else:
        if split not in ("train", "test"):
            raise ValueError(f"a text without splits of its own has train and test, got {split!r}")
        whole = _of_python() if place is None else _joined(place)
        end = round((1.0 - holdout) * len(whole))
        train, own = whole[:end], whole[:end] if split == "train" else whole[end:]
    vocabulary = vocabulary_of(train, tokens, min_count)
    numbers = vocabulary.encode(own)
    count = len(numbers) // length
    if not count:
        raise ValueError(
            f"the {split} split of {name} has {len(numbers)} {tokens}s, fewer than one example of "
            f"{length}: lower data.options.length, or give a longer text"
        )
    if numbers.nbytes > memory_limit_mib * 2**20:
        raise ValueError(
            f"{name} takes {numbers.nbytes / 2**20:.0f} MiB: texts are held in memory; raise "
            "data.memory_limit_mib"
        )
    made = from_arrays(
        name, num_levels=vocabulary.size, x=numbers[: count * length].reshape(count, length)
    )
    origin = {} if place is not None else {"Python": platform.python_version()}
    origin |= {
        "characters": f"{len(own)}",
        "sha256": hashlib.sha256(own.encode()).hexdigest()[:16],
    }
    feature = dataclasses.replace(made.spec["x"], vocabulary=vocabulary)
    return dataclasses.replace(made, spec={"x": feature}, origin=origin)


def _of_python() -> str:
    """The help texts of Python's documentation, every paragraph once."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise MissingDataError(
            "this Python comes without the texts of its documentation (pydoc_data): set "
            "data.data_dir to a .txt file"
        ) from error
    paragraphs = (p for name in sorted(topics) for p in topics[name].strip("\n").split("\n\n"))
    # A fifth of them is there twice or more: the held-out end would have been seen in training.
    return "\n\n".join(dict.fromkeys(paragraphs))


def _joined(place: str) -> str:
    """The text of a file, or of all ``.txt`` files in a folder."""
    if not os.path.isdir(place):
        return read_text(place)
    files = [
        os.path.join(folder, name)
        for folder, names in walk(place)
        for name in names
        if name.endswith(".txt") and not name.startswith(".")
    ]
    if not files:
        raise MissingDataError(f"there are no .txt files in {place}")
    return "\n".join(read_text(file) for file in sorted(files))


def read_text(file: str) -> str:
    """The text of a file, its line breaks those of Unix, without a byte order mark.

    Args:
        file: Its path.

    Raises:
        MissingDataError: If it does not exist.
        DamagedDataError: If it is not UTF-8.
    """
    try:
        with open(file, encoding="utf-8-sig") as opened:
            return opened.read()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingDataError(f"there is no file {file}") from error
    except UnicodeDecodeError as error:
        raise DamagedDataError(f"{file} is not UTF-8 ({error}): save it as UTF-8") from error
