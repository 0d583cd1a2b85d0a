"""Captions: their tokens, and pictures of handwritten digits with words that say what is there."""

import collections
import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from genjax.data import subwords
from genjax.data.digit_sets import digits, generator
from genjax.data.features import ArraySource, DataSet, Feature
from genjax.data.tfds_sets import tfds_set
from genjax.data.vocabulary import PADDING, UNKNOWN, Vocabulary, words_of

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (230, 30, 30),
    "orange": (245, 140, 20),
    "yellow": (240, 230, 40),
    "green": (30, 170, 60),
    "blue": (40, 80, 230),
    "purple": (150, 50, 200),
}
"""Names of colours, and their red, green and blue."""
GROUNDS: Mapping[str, tuple[int, int, int]] = {"black": (0, 0, 0), "white": (255, 255, 255)}
"""Further colours that pictures may be on."""
Scene = Literal["plain", "colour", "pair"]

_PLAIN = ("a photo of the digit {digit}", "{a_digit}", "the digit {digit}, written by hand")
_COLOUR = (
    "{a_colour} {digit} on {ground}",
    "{a_digit} in {colour} on {ground}",
    "on {ground}, {a_colour} {digit}",
)
_PAIR = ("{a_left} left of {a_right}", "{a_right} right of {a_left}", "{a_left} and {a_right}")


def caption_vocabulary(captions: Iterable[str], min_count: int = 1) -> Vocabulary:
    """The words of captions.

    Args:
        captions: The captions, of the training split alone.
        min_count: Words that occur less often are unknown.

    Returns:
        A vocabulary of words: what is unknown, padding, and the words in alphabetical order.
    """
    counts = collections.Counter(word for caption in captions for word in words_of(caption))
    words = sorted(w for w, count in counts.items() if count >= min_count and w != UNKNOWN)
    return Vocabulary("word", (UNKNOWN, PADDING, *words))


def caption_tokens(captions: Sequence[str], vocabulary: Vocabulary, length: int) -> np.ndarray:
    """Captions as rows of whole numbers, filled up at their ends.

    A word is looked for as it is written, then as it is after a space or without one, then in lower
    case: "Red seven" has the words of "a red seven" even where no caption begins with "red".

    Args:
        captions: ``N`` captions.
        vocabulary: A vocabulary with padding.
        length: Tokens of a row; what is longer is cut.

    Returns:
        int32 ``[N, length]``.

    Raises:
        ValueError: If the vocabulary has no padding.

    Example:
        >>> words = caption_vocabulary(["a red seven", "a two"])
        >>> caption_tokens(["a seven"], words, 4).tolist()
        [[5, 3, 1, 1]]
        >>> words.decode(caption_tokens(["a seven"], words, 4))
        ['a seven']
    """
    if vocabulary.padding is None:
        raise ValueError("expected a vocabulary of captions, which has a token for padding")
    rows = np.full((len(captions), length), vocabulary.padding, np.int32)
    # Captions recur: each is split once.
    known: dict[str, np.ndarray] = {}
    for row, caption in zip(rows, captions, strict=True):
        if caption not in known:
            known[caption] = numbers_of(caption, vocabulary)[:length]
        row[: len(known[caption])] = known[caption]
    return rows


def numbers_of(caption: str, vocabulary: Vocabulary) -> np.ndarray:
    """The numbers ``[T]`` of a caption: see :func:`caption_tokens`."""
    if vocabulary.kind != "word":
        return vocabulary.encode(caption)
    found = [_position(word, vocabulary.positions) for word in words_of(caption)]
    return np.array([number or 0 for number in found], vocabulary.dtype)


def tokens_of(prompts: Sequence[str], feature: Feature) -> np.ndarray:
    """Texts that a user writes, as the rows of tokens that a model of captions was trained on.

    Words are looked for as :func:`caption_tokens` does it.

    Args:
        prompts: ``N`` texts.
        feature: The feature ``tokens`` of the training split, with its vocabulary.

    Returns:
        int32 ``[N, T]``.

    Raises:
        ValueError: If a text is empty, has words that the vocabulary has not, or is longer than
            ``T`` tokens; or if the feature is none of captions.

    Example:
        >>> words = caption_vocabulary(["a red seven", "a two"])
        >>> feature = Feature((4,), np.dtype(np.int32), vocabulary=words)
        >>> words.decode(tokens_of(["Red two"], feature))
        [' red two']
    """
    vocabulary = feature.vocabulary
    if vocabulary is None or len(feature.shape) != 1 or vocabulary.padding is None:
        raise ValueError("expected a feature of captions [T], with a vocabulary that has padding")
    texts = [" ".join(prompt.split()) for prompt in prompts]
    if not all(texts):
        some = ", ".join(_known_words(vocabulary)[:8])
        raise ValueError(f"a prompt is empty: expected words such as {some}")
    unknown = dict.fromkeys(word for text in texts for word in _unknown_in(text, vocabulary))
    if unknown and vocabulary.kind == "subword":
        raise ValueError(f"the tokenizer has no tokens for {', '.join(map(repr, unknown))}")
    if unknown:
        raise ValueError(_unknown_words(list(unknown), _known_words(vocabulary)))
    (length,) = feature.shape
    for text in texts:
        count = len(numbers_of(text, vocabulary))
        if count > length:
            raise ValueError(
                f"the prompt {text!r} has {count} tokens, and those that the model was trained on "
                f"have at most {length}: say it in fewer words"
            )
    return caption_tokens(texts, vocabulary, length)


def _position(word: str, positions: Mapping[str, int]) -> int | None:
    """The number of a word with or without the space before it, if need be in lower case."""
    for written in (word, word.lower()):
        bare = written.strip()
        for form in (written, f" {bare}", bare):
            if form and form in positions:
                return positions[form]
    return None


def _unknown_in(text: str, vocabulary: Vocabulary) -> list[str]:
    """The words of a text that a vocabulary has not."""
    if vocabulary.kind == "subword":
        return subwords.unknown_in(vocabulary.definition, text)
    words = words_of(text)
    return [w.strip() for w in words if _position(w, vocabulary.positions) in (None, 0)]


def _known_words(vocabulary: Vocabulary) -> list[str]:
    words = {token.strip() for token in vocabulary.tokens[1:]}
    return sorted(word for word in words if word.isalnum())


def _unknown_words(words: Sequence[str], known: Sequence[str]) -> str:
    """What is said of words that no caption has."""
    near = [difflib.get_close_matches(word.lower(), known, n=1) for word in words]
    if len(words) == 1:
        some = f"it has words such as {', '.join(known[:8])}"
        guess = f"did you mean {near[0][0]!r}?" if near[0] else some
        return f"the captions of the training split have no word {words[0]!r}; {guess}"
    said = [
        f"{word!r} (did you mean {guess[0]!r}?)" if guess else repr(word)
        for word, guess in zip(words, near, strict=True)
    ]
    return f"the captions of the training split have none of the words {', '.join(said)}"


def _with_article(word: str) -> str:
    """The word after "a" or "an"."""
    return f"{'an' if word[0] in 'aeiou' and word != 'one' else 'a'} {word}"


def _filled(template: str, **words: str) -> str:
    both = {**words, **{f"a_{name}": _with_article(word) for name, word in words.items()}}
    return template.format(**both)


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """What is in each of ``N`` pictures: positions among the names of a scene, ``[N]`` each."""

    second: np.ndarray
    colour: np.ndarray
    ground: np.ndarray
    paraphrase: np.ndarray


def held_out_colour(digit: np.ndarray) -> np.ndarray:
    """The colour that no digit of this kind has in training, as a position in ``COLOURS``."""
    return digit % len(COLOURS)


def held_out_right(left: np.ndarray) -> np.ndarray:
    """The digit that is never right of this one in training."""
    return (3 * left + 1) % 10


def captioned_digits(
    split: str,
    *,
    data_dir: str | None = None,
    memory_limit_mib: int = 2048,
    images: Literal["mnist", "digits"] = "mnist",
    scene: Scene = "colour",
    paraphrases: bool = True,
    seed: int = 0,
) -> DataSet:
    """Handwritten digits with captions of a small grammar, some of whose combinations are held out.

    Args:
        split: ``train``; ``test``, other digits in combinations that training has; or
            ``held_out``, those digits in combinations that it has not.
        data_dir: Where MNIST is prepared, as of the data set ``mnist``.
        memory_limit_mib: Larger sets are refused.
        images: ``"mnist"``, or the embedded ``"digits"`` of 8x8 pixels.
        scene: What is to be seen: a digit as it is (``"plain"``: "a photo of the digit seven"); a
            digit of one of six colours on another, on black or on white (``"colour"``: "a red seven
            on green"), where each digit has a colour held out; or two digits side by side
            (``"pair"``: "a three left of an eight"), where for each left one a right one is held
            out.
        paraphrases: Whether a scene is said in one of three ways, else in the first.
        seed: Seed of colours, partners and ways of saying it.

    Returns:
        The split: ``x`` uint8 ``[H, W, C]``; ``tokens`` int32 ``[T]``, the caption, with the
        vocabulary of all captions of the scene; and class ids: ``label``, the (left) digit; of
        colours ``colour`` and ``ground``, of pairs ``right``.

    Raises:
        ValueError: If an argument is out of range, or the set is too large.
    """
    if scene not in ("plain", "colour", "pair"):
        raise ValueError(f"scene must be 'plain', 'colour' or 'pair', got {scene!r}")
    if images not in ("mnist", "digits"):
        raise ValueError(f"images must be 'mnist' or 'digits', got {images!r}")
    splits = ("train", "test") if scene == "plain" else ("train", "test", "held_out")
    if split not in splits:
        more = "; nothing of it is held out" if split == "held_out" else ""
        raise ValueError(f"scene {scene!r} has the splits {', '.join(splits)}, got {split!r}{more}")
    part = "train" if split == "train" else "test"
    whole = (
        digits(part) if images == "digits" else tfds_set("mnist", part, data_dir, memory_limit_mib)
    )
    rows = whole.source.rows(np.arange(len(whole.source)))
    x, digit = rows["x"].astype(np.float32), rows["label"]
    x *= np.float32(255.0 / ((whole.num_levels or 256) - 1))
    times = {"plain": 1, "colour": 3, "pair": 2}[scene]
    if x.size * times > memory_limit_mib * 2**20:
        raise ValueError(
            f"captioned digits take {x.size * times / 2**20:.0f} MiB and are held in memory: raise "
            "data.memory_limit_mib"
        )
    drawn = _draw(generator(seed, splits.index(split)), digit, split == "held_out", paraphrases)
    captions, ids = _said(scene, digit, drawn)
    vocabulary = caption_vocabulary(every_caption(scene))
    # One more, so that all captions end in padding, which models of the next word end at.
    length = 1 + max(len(words_of(caption)) for caption in every_caption(scene))
    tokens = caption_tokens(captions, vocabulary, length)
    pictures = _pictures(scene, x, drawn)
    spec = {
        "x": Feature(pictures.shape[1:], np.dtype(np.uint8), num_levels=256),
        "tokens": Feature((length,), np.dtype(np.int32), None, vocabulary.size, None, vocabulary),
    }
    names = {"label": DIGITS, "right": DIGITS, "colour": tuple(COLOURS),
             "ground": (*GROUNDS, *COLOURS)}  # fmt: skip
    for name in ids:
        spec[name] = Feature((), np.dtype(np.int32), None, len(names[name]), names[name])
    source = ArraySource(x=pictures, tokens=tokens, **ids)
    return DataSet("captioned_digits", source, spec)


def every_caption(scene: Scene) -> list[str]:
    """All captions that the grammar makes of a scene, held-out ones included."""
    if scene == "plain":
        return [_filled(way, digit=d) for way, d in itertools.product(_PLAIN, DIGITS)]
    if scene == "pair":
        pairs = itertools.product(_PAIR, DIGITS, DIGITS)
        return [_filled(way, left=a, right=b) for way, a, b in pairs]
    parts = itertools.product(_COLOUR, DIGITS, COLOURS, (*GROUNDS, *COLOURS))
    return [_filled(way, digit=d, colour=c, ground=g) for way, d, c, g in parts if c != g]


def _draw(rng: np.random.Generator, digit: np.ndarray, held_out: bool, paraphrases: bool) -> _Drawn:
    """What is in each picture. All is drawn for every scene, so that they share what they can."""
    count = len(digit)
    shift = rng.integers(1, len(COLOURS), count)
    shift = np.zeros_like(shift) if held_out else shift
    colour = (held_out_colour(digit) + shift) % len(COLOURS)
    # Of the grounds, those that are not the digit's own colour.
    ground = rng.integers(len(GROUNDS) + len(COLOURS) - 1, size=count)
    ground += ground >= len(GROUNDS) + colour
    # Partners are tried until the pair is one of the split.
    second = rng.integers(count, size=count)
    for _ in range(1000):
        wrong = np.flatnonzero((digit[second] == held_out_right(digit)) != held_out)
        if not len(wrong):
            break
        second[wrong] = rng.integers(count, size=len(wrong))
    else:
        raise ValueError("there are too few digits to make pairs of")
    ways = rng.integers(3, size=count) if paraphrases else np.zeros(count, int)
    return _Drawn(second, colour, ground, ways)


def _said(
    scene: Scene, digit: np.ndarray, drawn: _Drawn
) -> tuple[list[str], dict[str, np.ndarray]]:
    """The caption of each picture, and the class ids of what it says."""
    ids = {"label": digit.astype(np.int32)}
    if scene == "plain":
        said = [_filled(_PLAIN[way], digit=DIGITS[d])
                for way, d in zip(drawn.paraphrase, digit, strict=True)]  # fmt: skip
    elif scene == "pair":
        ids["right"] = digit[drawn.second].astype(np.int32)
        pairs = zip(drawn.paraphrase, digit, ids["right"], strict=True)
        said = [_filled(_PAIR[way], left=DIGITS[a], right=DIGITS[b]) for way, a, b in pairs]
    else:
        ids |= {"colour": drawn.colour.astype(np.int32), "ground": drawn.ground.astype(np.int32)}
        colours, grounds = tuple(COLOURS), (*GROUNDS, *COLOURS)
        parts = zip(drawn.paraphrase, digit, drawn.colour, drawn.ground, strict=True)
        said = [
            _filled(_COLOUR[way], digit=DIGITS[d], colour=colours[c], ground=grounds[g])
            for way, d, c, g in parts
        ]
    return said, ids


def _pictures(scene: Scene, x: np.ndarray, drawn: _Drawn) -> np.ndarray:
    """The pictures, uint8 ``[N, H, W, C]``, of images ``[N, H, W, 1]`` from 0 to 255."""
    if scene == "plain":
        return np.round(x).astype(np.uint8)
    if scene == "pair":
        return np.round(np.concatenate([x, x[drawn.second]], axis=2)).astype(np.uint8)
    colours = np.array(list(COLOURS.values()), np.float32)[drawn.colour]
    grounds = np.array([*GROUNDS.values(), *COLOURS.values()], np.float32)[drawn.ground]
    made = np.empty((*x.shape[:3], 3), np.uint8)
    for start in range(0, len(x), 4096):  # in parts: floating point takes four times the memory
        rows = slice(start, start + 4096)
        share = x[rows] / np.float32(255.0)
        colour, ground = colours[rows, None, None], grounds[rows, None, None]
        made[rows] = np.round(ground + share * (colour - ground))
    return made
