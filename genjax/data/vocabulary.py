"""Text as rows of whole numbers, and back."""

import collections
import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from genjax.data import subwords

Tokens: TypeAlias = Literal["byte", "character", "word"]
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""What stands in texts for what is unknown."""
PADDING = ""
"""The token that fills captions up: nothing, in a text."""
# A space goes with what follows it: nothing is lost, and texts of words are half as long.
_WORD = re.compile(r" ?\w+| ?[^\w\s]|\s")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the numbers of a text stand for: the number of a token is its position.

    Attributes:
        kind: What the tokens are: UTF-8 bytes, characters, or words, which are runs of letters and
            digits, single other characters, either with a space before them if there is one, and
            white space. Concatenated, tokens are the text. Or they are a ``"subword"``: whatever a
            ``tokenizer.json`` of the Hugging Face package ``tokenizers`` makes of texts.
        tokens: The tokens; of characters and words the first stands for all that are unknown. Of
            bytes none are listed: they stand for themselves.
        definition: Of subwords the content of their ``tokenizer.json``, else empty.
    """

    kind: Tokens | Literal["subword"]
    tokens: tuple[str, ...] = ()
    definition: str = ""

    @property
    def size(self) -> int:
        """Number of tokens."""
        return 256 if self.kind == "byte" else len(self.tokens)

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers: uint8 if they fit, else int32."""
        return np.dtype(np.uint8 if self.size <= 256 else np.int32)

    @functools.cached_property
    def positions(self) -> Mapping[str, int]:
        """The numbers of the tokens."""
        return {token: number for number, token in enumerate(self.tokens)}

    @property
    def padding(self) -> int | None:
        """The number of the token that captions are filled up with; None if there is none."""
        if self.kind == "subword":
            return subwords.padding(self.definition, self.positions)
        return self.positions.get(PADDING)

    def as_json(self) -> dict[str, Any]:
        """What tells all of it, as JSON data."""
        found = {"kind": self.kind, "tokens": list(self.tokens)}
        return {**found, **({"definition": self.definition} if self.definition else {})}

    def encode(self, text: str) -> np.ndarray:
        """The numbers ``[T]`` of a text; 0 for unknown characters and words.

        Example:
            >>> Vocabulary("character", (UNKNOWN, "a", "b")).encode("abc").tolist()
            [1, 2, 0]
        """
        if self.kind == "byte":
            return np.frombuffer(text.encode(), np.uint8)
        if self.kind == "subword":
            return np.array(subwords.encode(self.definition, text), self.dtype)
        return np.array([self.positions.get(t, 0) for t in _split(text, self.kind)], self.dtype)

    def decode(self, rows: np.ndarray) -> list[str]:
        r"""The text of each row.

        Args:
            rows: Whole numbers ``[N, T]``.

        Returns:
            ``N`` strings, in which ``"\ufffd"`` stands for what is unknown, and for bytes that are
            no UTF-8. Of subwords, special tokens such as padding are left out.

        Raises:
            ValueError: If these are no numbers of tokens.
        """
        rows = np.asarray(rows)
        whole = rows.ndim == 2 and np.issubdtype(rows.dtype, np.integer)
        if not whole or (rows.size and not 0 <= rows.min() <= rows.max() < self.size):
            span = f" from {rows.min()} to {rows.max()}" if rows.size else ""
            raise ValueError(
                f"expected whole numbers [N, T] from 0 to {self.size - 1}, got {rows.dtype} "
                f"{list(rows.shape)}{span}"
            )
        if self.kind == "byte":
            return [row.astype(np.uint8).tobytes().decode(errors="replace") for row in rows]
        if self.kind == "subword":
            return [subwords.decode(self.definition, row, self.padding) for row in rows.tolist()]
        return ["".join(self.tokens[number] for number in row) for row in rows.tolist()]


def vocabulary_of(text: str, kind: Tokens, min_count: int) -> Vocabulary:
    """The vocabulary of a text.

    Args:
        text: The text, of the training split alone.
        kind: What the tokens are.
        min_count: Characters and words that occur less often are unknown.

    Returns:
        The vocabulary: :data:`UNKNOWN`, then tokens from the most frequent to the rarest, and by
        code points among those as frequent. Of bytes all 256.

    Raises:
        ValueError: If an argument is out of range.
    """
    if kind not in ("byte", "character", "word"):
        raise ValueError(f"tokens must be 'byte', 'character' or 'word', got {kind!r}")
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, got {min_count}")
    if kind == "byte":
        return Vocabulary(kind)
    counts = collections.Counter(_split(text, kind))
    known = [t for t, count in counts.items() if count >= min_count and t != UNKNOWN]
    known.sort(key=lambda token: (-counts[token], token))
    return Vocabulary(kind, (UNKNOWN, *known))


def _split(text: str, kind: Tokens) -> str | list[str]:
    """The tokens of a text, characters or words."""
    return text if kind == "character" else words_of(text)


def words_of(text: str) -> list[str]:
    """The tokens of a text as words.

    Example:
        >>> words_of("a red seven, on green")
        ['a', ' red', ' seven', ',', ' on', ' green']
    """
    return _WORD.findall(text)
