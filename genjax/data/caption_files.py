"""Captions of a user's pictures: in a table beside them, or in a text file each."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from genjax.data.captions import caption_tokens, caption_vocabulary, numbers_of
from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import Feature
from genjax.data.splits import walk
from genjax.data.subwords import tokens_in
from genjax.data.text import read_text
from genjax.data.vocabulary import Vocabulary

TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
"""Names of files that say which picture has which caption."""
_FILE_COLUMNS = ("file_name", "filename", "file", "image")
_CAPTION_COLUMNS = ("text", "caption")


def captions_of(
    root: str, files: Sequence[str], *, folder: str | None = None, column: str | None = None
) -> list[list[str]]:
    """The captions of pictures, from one of :data:`TABLES` or from a ``.txt`` beside each picture.

    A table has a line for each caption: the path of the picture from the folder that the table lies
    in, in a column ``file_name`` (or ``filename``, ``file``, ``image``), and the caption. A picture
    has as many captions as it has lines, in a table or in its ``.txt``.

    Args:
        root: The folder of the pictures.
        files: Their paths from there.
        folder: A folder above, whose table counts where ``root`` has none.
        column: Column of the captions; None for ``text`` or ``caption``.

    Returns:
        The captions of each picture, at least one, with single spaces between words.

    Raises:
        MissingDataError: If there are no captions.
        DamagedDataError: If a file cannot be read.
        ValueError: If a picture has no caption, a caption no picture or no words, or a picture has
            one caption twice.
    """
    tables = _tables_in(root) or _tables_in(folder or root)
    if len(tables) > 1:
        raise ValueError(f"expected one file of captions, found {' and '.join(tables)}")
    places = [os.path.normpath(os.path.join(root, file)) for file in files]
    pictures: dict[str, list[str]] = {place: [] for place in places}
    if tables:
        _fill_from_table(tables[0], root, pictures, column)
        where = f"in {tables[0]}"
    else:
        _fill_from_texts(root, pictures)
        where = "beside them"
    missing = [os.path.relpath(place, root) for place, found in pictures.items() if not found]
    if len(missing) == len(pictures):
        raise MissingDataError(
            f"the pictures in {root} have no captions {where}: expected {', '.join(TABLES[:-1])} "
            f"or {TABLES[-1]}, with the columns file_name and text, or a .txt beside each picture"
        )
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(pictures)} pictures in {root} have no caption {where}, such "
            f"as {missing[0]}: add their captions, or move the pictures away"
        )
    return list(pictures.values())


def _tables_in(folder: str) -> list[str]:
    places = [os.path.join(folder, name) for name in TABLES]
    return [place for place in places if os.path.isfile(place)]


def _fill_from_table(
    table: str, root: str, pictures: Mapping[str, list[str]], column: str | None
) -> None:
    """Appends the captions of a table to those of their pictures."""
    base = os.path.dirname(table)
    for where, name, text in _lines(table, column):
        place = os.path.normpath(os.path.join(base, name))
        if place not in pictures:
            # A table above the splits has pictures of all of them.
            if base != root and os.path.isfile(place) and not place.startswith(root + os.sep):
                continue
            raise ValueError(
                f"{where} has a caption of {name}, but there is no such picture in {root}: paths "
                f"must be those from {base}"
            )
        _append(pictures[place], text, where, name)


def _fill_from_texts(root: str, pictures: Mapping[str, list[str]]) -> None:
    """Appends the lines of text files to the captions of the pictures beside them."""
    by_stem: dict[str, str] = {}
    for place in pictures:
        stem = os.path.splitext(place)[0]
        if stem in by_stem and os.path.isfile(f"{stem}.txt"):
            raise ValueError(
                f"{stem}.txt has the captions of two pictures, {by_stem[stem]} and {place}: rename "
                "one of them, or write a captions.csv"
            )
        by_stem[stem] = place
    for folder, names in walk(root):
        for name in names:
            place = os.path.normpath(os.path.join(folder, name))
            stem, suffix = os.path.splitext(place)
            if suffix != ".txt" or name.startswith("."):
                continue
            if stem not in by_stem:
                raise ValueError(
                    f"{place} lies beside no picture of its name: move it away if it is no caption"
                )
            lines = [line for line in read_text(place).splitlines() if line.strip()]
            for line in lines or [""]:
                _append(pictures[by_stem[stem]], line, place, name)


def _append(captions: list[str], text: str, where: str, name: str) -> None:
    caption = " ".join(text.split())
    if not caption:
        raise ValueError(f"{where} has an empty caption of {name}: write one, or leave it out")
    if caption in captions:
        raise ValueError(f"{where} has a caption of {name} that it has already: {caption!r}")
    captions.append(caption)


def _lines(table: str, column: str | None) -> Iterator[tuple[str, str, str]]:
    """Where each caption of a table stands, the path of its picture, and the caption."""
    content = read_text(table)
    read = _csv_lines if table.endswith(".csv") else _json_lines
    for number, line in read(table, content):
        where = f"line {number} of {table}"
        file = _cell(line, _FILE_COLUMNS, where)
        said = _cell(line, (column,) if column else _CAPTION_COLUMNS, where)
        texts = said if isinstance(said, list) else [said]
        if not isinstance(file, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{where} has a path or a caption that is no text: {file!r}, {said!r}")
        for text in texts:
            yield where, file, text


def _cell(line: Mapping[str, Any], columns: Sequence[str], where: str) -> Any:
    found = next((name for name in columns if name in line), None)
    if found is None:
        raise ValueError(
            f"{where} has no {' or '.join(columns[:2])}; it has {', '.join(line)}; the column of "
            "captions is data.options.caption_column"
        )
    return line[found]


def _csv_lines(table: str, content: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(content), strict=True)
    try:
        header = next(reader, [])
        for cells in reader:
            if cells and len(cells) != len(header):
                raise ValueError(
                    f"line {reader.line_num} of {table} has {len(cells)} cells, and its header "
                    f"{len(header)}: captions with commas must stand in quotes"
                )
            if cells:
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DamagedDataError(
            f"line {reader.line_num} of {table} cannot be read: {error}"
        ) from error


def _json_lines(table: str, content: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not str.splitlines: JSON may hold other line breaks, such as U+2028, as they are.
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise DamagedDataError(f"line {number} of {table} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise DamagedDataError(f"line {number} of {table} is no JSON object")
        yield number, found


def caption_feature(
    captions: Sequence[Sequence[str]],
    *,
    tokenizer: str | None = None,
    length: int | None = None,
    min_count: int = 1,
) -> Feature:
    """The feature ``tokens``, as the captions of the training split decide it.

    Args:
        captions: The captions of each picture of the training split.
        tokenizer: A ``tokenizer.json``; None for the words of the captions.
        length: Tokens of a row; None for those of the longest caption and one of padding.
        min_count: Words that are rarer are unknown.

    Raises:
        MissingDataError: If there is no such file, or its package is not installed.
        DamagedDataError: If it defines no tokenizer.
        ValueError: If an argument is out of range, or the tokenizer has no padding.
    """
    if min_count < 1 or (length is not None and length < 1):
        raise ValueError(
            f"caption_length and min_count must be at least 1, got {length} and {min_count}"
        )
    every = dict.fromkeys(text for texts in captions for text in texts)
    if tokenizer is None:
        vocabulary = caption_vocabulary((t for texts in captions for t in texts), min_count)
    else:
        if min_count > 1:
            raise ValueError("min_count is of words, and a tokenizer has words of its own")
        definition = read_text(os.path.abspath(os.path.expanduser(tokenizer)))
        vocabulary = Vocabulary("subword", tokens_in(definition), definition)
        if vocabulary.padding is None:
            raise ValueError(
                f"{tokenizer} has no token to fill captions up with: enable its padding "
                "(tokenizer.enable_padding) and save it"
            )
    if length is None:
        length = 1 + max(len(numbers_of(text, vocabulary)) for text in every)
    return Feature((length,), np.dtype(np.int32), None, vocabulary.size, None, vocabulary)


def caption_rows(
    captions: Sequence[Sequence[str]], feature: Feature, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """A row for each caption of each picture.

    Captions that are too long are cut, and their number is said in a warning.

    Args:
        captions: The captions of ``P`` pictures.
        feature: What :func:`caption_feature` has made of the training split.
        where: What the captions are of, for the warning.

    Returns:
        The tokens, int32 ``[N, T]``, and the picture that each row is of, ``[N]``.
    """
    assert feature.vocabulary is not None
    (length,) = feature.shape
    texts = [text for of_one in captions for text in of_one]
    whole = {text: len(numbers_of(text, feature.vocabulary)) for text in texts}
    cut = sum(whole[text] > length for text in texts)
    if cut:
        logging.warning(
            "%s: %d of %d captions have more than %d tokens and are cut; the longest has %d: raise "
            "data.options.caption_length",
            where, cut, len(texts), length, max(whole.values()),
        )  # fmt: skip
    picture = np.repeat(np.arange(len(captions)), [len(of_one) for of_one in captions])
    return caption_tokens(texts, feature.vocabulary, length), picture
