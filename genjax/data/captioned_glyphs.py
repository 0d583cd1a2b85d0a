"""Letters and digits of fonts with words for what they are: "a bold serif R"."""

import numpy as np

from genjax.data.captions import caption_tokens, caption_vocabulary
from genjax.data.digit_sets import generator
from genjax.data.features import ArraySource, DataSet, Feature
from genjax.data.glyphs import ATTRIBUTES, CHARACTERS, FACES, check_size, drawn, versions
from genjax.data.vocabulary import words_of

_WAYS = ("{a_look} {character}", "the {kind} {character} in {look}", "{kind} {character}, {look}")
_SAID = {"regular": "", "upright": "", "proportional": ""}
"""Attributes that go without saying."""
_ORDER = ("weight", "slant", "width", "serif")
LOOKS = tuple(sorted(set(FACES.values())))
"""Weight, slant, serif and width, as positions in ``ATTRIBUTES``, of which there is a face."""


def held_out_look(character: np.ndarray) -> np.ndarray:
    """The look that no face has for a character in training, as a position in ``LOOKS``."""
    return (5 * character + 2) % len(LOOKS)


def look_in_words(look: tuple[int, int, int, int]) -> str:
    """The adjectives of a look: what is regular, upright or proportional is not said.

    Example:
        >>> look_in_words((1, 0, 1, 0)), look_in_words((0, 1, 0, 1))
        ('bold serif', 'italic monospace sans')
    """
    names = {n: ATTRIBUTES[n][i] for n, i in zip(ATTRIBUTES, look, strict=True)}
    words = (_SAID.get(names[name], names[name]) for name in _ORDER)
    return " ".join(word for word in words if word)


def glyph_caption(way: int, look: int, character: int) -> str:
    """The caption of a glyph.

    Args:
        way: Which of the three ways of saying it.
        look: Position in ``LOOKS``.
        character: Position in ``CHARACTERS``.

    Example:
        >>> [glyph_caption(way, LOOKS.index((1, 0, 1, 0)), 17) for way in range(3)]
        ['a bold serif R', 'the letter R in bold serif', 'letter R, bold serif']
    """
    words, shown = look_in_words(LOOKS[look]), CHARACTERS[character]
    return _WAYS[way].format(
        look=words,
        a_look=f"{'an' if words[0] in 'aeiou' else 'a'} {words}",
        character=shown,
        kind="digit" if shown.isdigit() else "letter",
    )


def captioned_glyphs(
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    size: int = 28,
    variants: int = 4,
    paraphrases: bool = True,
    seed: int = 0,
) -> DataSet:
    """The glyphs of the 21 faces that matplotlib ships, with captions of what is known of them.

    Weight, slant, width and serifs of a face are its look, of which there are 13; of each character
    one look is held out, in all faces that have it. Characters keep their case: "R" and "r" are two
    words.

    Args:
        split: ``train``; ``test``, one further variant of each of the same glyphs; or ``held_out``,
            the characters in the looks that training has not.
        data_dir: Not looked at: the fonts are where matplotlib is.
        memory_limit_mib: Larger sets are refused.
        size: Pixels of a side.
        variants: Pictures of each glyph besides the one of full size, as of the data set
            ``glyphs``.
        paraphrases: Whether a glyph is captioned in one of three ways, else in the first.
        seed: Seed of variants and of ways of saying it.

    Returns:
        The split: ``x`` uint8 ``[size, size, 1]``; ``tokens`` int32 ``[T]``, the caption, with the
        vocabulary of all captions; and class ids: ``label``, the character; ``font``, ``weight``,
        ``slant``, ``serif`` and ``width`` of its face.

    Raises:
        MissingDataError: If the installed matplotlib lacks a face, or a face a character.
        ValueError: If an argument is out of range.
    """
    del data_dir
    splits = ("train", "test", "held_out")
    if split not in splits:
        raise ValueError(f"captioned_glyphs has the splits {', '.join(splits)}, got {split!r}")
    # The test split has a variant of its own.
    check_size(size, variants, seed, pictures=2 + variants, memory_limit_mib=memory_limit_mib)
    faces = np.array(list(FACES.values()))
    look_of = np.array([LOOKS.index(face) for face in FACES.values()])
    face, character = np.divmod(np.arange(len(FACES) * len(CHARACTERS)), len(CHARACTERS))
    apart = look_of[face] == held_out_look(character)
    kept = apart if split == "held_out" else ~apart
    face, character = face[kept], character[kept]
    which = slice(1 + variants, None) if split == "test" else slice(0, 1 + variants)
    pictures = drawn(size, 1 + variants, seed)[which, face, character]
    ids = {"label": character, "font": face}
    ids |= {name: faces[face, i] for i, name in enumerate(ATTRIBUTES)}
    arrays = {n: np.tile(of_one, len(pictures)).astype(np.int32) for n, of_one in ids.items()}
    count = len(arrays["label"])
    ways = generator(seed, splits.index(split)).integers(3, size=count)
    ways = ways if paraphrases else np.zeros(count, int)
    said = [
        glyph_caption(*of_one)
        for of_one in zip(ways, look_of[arrays["font"]], arrays["label"], strict=True)
    ]
    every = every_glyph_caption()
    vocabulary = caption_vocabulary(every)
    length = 1 + max(len(words_of(caption)) for caption in every)
    names = {"label": tuple(CHARACTERS), "font": tuple(FACES), **ATTRIBUTES}
    whole = np.dtype(np.int32)
    spec = {
        "x": Feature((size, size, 1), np.dtype(np.uint8), num_levels=256),
        "tokens": Feature((length,), whole, None, vocabulary.size, None, vocabulary),
        **{n: Feature((), whole, None, len(classes), classes) for n, classes in names.items()},
    }
    source = ArraySource(
        x=pictures.reshape(-1, size, size, 1),
        tokens=caption_tokens(said, vocabulary, length),
        **arrays,
    )
    return DataSet("captioned_glyphs", source, spec, origin=versions())


def every_glyph_caption() -> list[str]:
    """All captions that the grammar makes of glyphs, held-out ones included."""
    return [
        glyph_caption(way, look, character)
        for way in range(len(_WAYS))
        for look in range(len(LOOKS))
        for character in range(len(CHARACTERS))
    ]
