"""Captions of glyphs: they say what the faces are, and what is held out is never seen."""

import numpy as np
import pytest

from genjax import data
from genjax.data import captioned_glyphs as captioned


def load(split="train", **options):
    return data.load("captioned_glyphs", split, size=8, variants=1, **options)


def texts_of(dataset):
    return dataset.spec["tokens"].vocabulary.decode(dataset.source.arrays["tokens"])


@pytest.fixture(scope="module")
def splits():
    return {split: load(split) for split in ("train", "test", "held_out")}


@pytest.mark.parametrize("split", ["train", "test", "held_out"])
def test_captions_say_what_the_glyph_is(splits, split):
    made = splits[split]
    data.check_rows(made)
    rows = made.source.arrays
    named = {
        name: [feature.class_names[i] for i in rows[name]]
        for name, feature in made.spec.items()
        if feature.class_names
    }
    for i, text in enumerate(texts_of(made)):
        words = text.replace(",", "").split()
        said = [w for w in words if w not in ("a", "an", "the", "in", "letter", "digit")]
        # "a" is an article, and a letter.
        character = named["label"][i]
        assert character in words
        adjectives = {named[n][i] for n in ("weight", "slant", "width", "serif")}
        adjectives -= {"regular", "upright", "proportional"}
        assert {w for w in said if w != character} == adjectives, text
        assert ("digit" in words) <= character.isdigit() and ("letter" in words) <= (
            not character.isdigit()
        )


def test_the_caption_of_a_row_and_its_picture_are_of_one_glyph(splits):
    rows = splits["train"].source.arrays
    whole = data.load("glyphs", "train", size=8, variants=0, split_by="font").source.arrays
    pictures = {
        (font, label): x
        for x, font, label in zip(whole["x"], whole["font"], whole["label"], strict=True)
    }
    compared = 0
    for i in range(len(rows["x"]) // 2):  # those of full size come first
        key = rows["font"][i], rows["label"][i]
        if key in pictures:
            np.testing.assert_array_equal(rows["x"][i], pictures[key])
            compared += 1
    assert compared > 900


def test_combinations_of_look_and_character_are_held_out_and_their_parts_are_not(splits):
    def pairs(made):
        rows = made.source.arrays
        attributes = [rows[n] for n in ("weight", "slant", "serif", "width")]
        return set(zip(zip(*(a.tolist() for a in attributes), strict=True), rows["label"].tolist(),
                       strict=True))  # fmt: skip

    seen, tested, held_out = (pairs(splits[s]) for s in ("train", "test", "held_out"))
    assert seen == tested and not seen & held_out and len(held_out) == 62
    assert len(seen | held_out) == 62 * len(captioned.LOOKS) == 62 * 13
    for part in (0, 1):
        assert {pair[part] for pair in held_out} == {pair[part] for pair in seen}


def test_the_pictures_of_the_test_split_are_none_of_training(splits):
    train, test = (splits[s].source.arrays["x"] for s in ("train", "test"))
    seen = {x.tobytes() for x in train}
    assert len(test) == len(train) // 2
    # Of 64 pixels a few come out alike.
    assert np.mean([x.tobytes() in seen for x in test]) < 0.02


def test_without_paraphrases_there_is_one_way_to_say_it():
    texts = texts_of(load(paraphrases=False))
    assert all(text.startswith(("a ", "an ")) for text in texts)
    assert "a bold serif S" in texts and "an italic monospace sans 7" in texts
    held_out = texts_of(load("held_out", paraphrases=False))
    assert "a bold serif R" in held_out and "a bold serif R" not in texts
    assert set(texts) < set(captioned.every_glyph_caption())
    with pytest.raises(ValueError, match="has the splits train, test, held_out, got 'font'"):
        load("font")
