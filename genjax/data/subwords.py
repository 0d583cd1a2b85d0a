"""Tokenizers of Hugging Face's package ``tokenizers``, as their ``tokenizer.json`` defines them."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from genjax.data.errors import DamagedDataError, MissingDataError

_PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "</s>")
"""What padding is called where a tokenizer does not say it; the last two end a text."""


def tokens_in(definition: str) -> tuple[str, ...]:
    """The tokens of a tokenizer by their numbers.

    Args:
        definition: The content of a ``tokenizer.json``.

    Returns:
        The tokens; an empty one where a number has none.

    Raises:
        MissingDataError: If the package ``tokenizers`` is not installed.
        DamagedDataError: If it defines no tokenizer.
    """
    numbers: Mapping[str, int] = _tokenizer(definition).get_vocab(with_added_tokens=True)
    found = [""] * (1 + max(numbers.values(), default=-1))
    for token, number in numbers.items():
        found[number] = token
    return tuple(found)


def encode(definition: str, text: str) -> list[int]:
    """The numbers of a text, with the special tokens that the tokenizer adds.

    Args:
        definition: The content of a ``tokenizer.json``.
        text: The text.
    """
    return list(_tokenizer(definition).encode(text).ids)


def decode(definition: str, row: Sequence[int], padding: int | None) -> str:
    """The text of numbers, without special tokens.

    Args:
        definition: The content of a ``tokenizer.json``.
        row: The numbers.
        padding: The number that fills texts up; it is left out at their ends, even if the tokenizer
            does not call it special.
    """
    count = len(row)
    while count and row[count - 1] == padding:
        count -= 1
    return str(_tokenizer(definition).decode(list(row[:count]), skip_special_tokens=True))


def unknown_in(definition: str, text: str) -> list[str]:
    """The parts of a text that the tokenizer has no tokens for.

    Args:
        definition: The content of a ``tokenizer.json``.
        text: The text.
    """
    model = _parsed(definition).get("model") or {}
    unknown = model.get("unk_id")  # of a unigram model; of others it is named
    if model.get("unk_token") is not None:
        unknown = _tokenizer(definition).token_to_id(model["unk_token"])
    encoded = _tokenizer(definition).encode(text)
    parts = zip(encoded.ids, encoded.offsets, strict=True)
    return [text[start:stop] for number, (start, stop) in parts if number == unknown]


def padding(definition: str, numbers: Mapping[str, int]) -> int | None:
    """The number of the token that fills texts up.

    Args:
        definition: The content of a ``tokenizer.json``.
        numbers: Numbers of its tokens.

    Returns:
        That of the definition's own section ``padding``; else that of a token which is called as
        padding usually is, or which ends a text; None if there is none.
    """
    said = _parsed(definition).get("padding")
    if said:
        return int(said["pad_id"])
    return next((numbers[name] for name in _PADDING if name in numbers), None)


@functools.lru_cache(maxsize=4)
def _parsed(definition: str) -> Any:
    return json.loads(definition)


@functools.lru_cache(maxsize=4)
def _tokenizer(definition: str) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise MissingDataError(
            "a tokenizer.json needs the package tokenizers, which is not installed: pip install "
            "'genjax-train[tokenizers]'"
        ) from error
    try:
        made = tokenizers.Tokenizer.from_str(definition)
    except Exception as error:  # the package has no errors of its own
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise DamagedDataError(
            f"expected the content of a tokenizer.json of Hugging Face's tokenizers: {reason}"
        ) from error
    # Rows are filled up and cut by whoever knows their length.
    made.no_padding()
    made.no_truncation()
    return made
