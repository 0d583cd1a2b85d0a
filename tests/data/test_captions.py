"""Pictures with captions: what is said is what is there, and what is held out is never seen."""

import re

import numpy as np
import pytest

from genjax import data
from genjax.data import captions


def load(split="train", **options):
    return data.load("captioned_digits", split, images="digits", **options)


def said(dataset):
    return dataset.spec["tokens"].vocabulary.decode(dataset.source.arrays["tokens"])


@pytest.mark.parametrize("scene", ["plain", "colour", "pair"])
def test_captions_say_what_is_in_the_picture(scene):
    made = load(scene=scene)
    data.check_rows(made)
    rows, texts = made.source.arrays, said(made)
    plain = data.load("digits", "train").source.arrays
    np.testing.assert_array_equal(rows["label"], plain["label"])
    names = {name: made.spec[name].class_names for name in made.spec if made.spec[name].class_names}
    for i in range(40):
        words = set(texts[i].replace(",", "").split())
        for name, known in names.items():
            assert known[rows[name][i]] in words, (texts[i], name)
    grey = np.round(plain["x"].astype(np.float32) * 255 / 16).astype(np.uint8)
    if scene == "plain":
        np.testing.assert_array_equal(rows["x"], grey)
    if scene == "pair":
        np.testing.assert_array_equal(rows["x"][:, :, :8], grey)
        # "left of" and "right of" name the two in their order.
        for i in np.flatnonzero([" left of " in text for text in texts])[:10]:
            left, right = texts[i].split(" left of ")
            assert captions.DIGITS[rows["label"][i]] in left
            assert captions.DIGITS[rows["right"][i]] in right
    if scene == "colour":
        colours = np.array(list(captions.COLOURS.values()))[rows["colour"]]
        grounds = np.array([*captions.GROUNDS.values(), *captions.COLOURS.values()])[rows["ground"]]
        inside, outside = grey[..., 0] == 255, grey[..., 0] == 0
        number, _, _ = np.nonzero(inside)
        np.testing.assert_array_equal(rows["x"][inside], colours[number])
        number, _, _ = np.nonzero(outside)
        np.testing.assert_array_equal(rows["x"][outside], grounds[number])
        assert (colours != grounds).any(1).all()


@pytest.mark.parametrize("scene, second", [("colour", "colour"), ("pair", "right")])
def test_combinations_are_held_out_and_their_parts_are_not(scene, second):
    seen, tested, held_out = (
        {(int(a), int(b)) for a, b in zip(rows["label"], rows[second], strict=True)}
        for rows in (load(s, scene=scene).source.arrays for s in ("train", "test", "held_out"))
    )
    assert not seen & held_out and not tested & held_out
    assert len(held_out) == 10 and len(seen) >= 45
    for i in (0, 1):
        assert {pair[i] for pair in held_out} <= {pair[i] for pair in seen}


def test_words_of_all_splits_are_known_and_have_one_length():
    train, held_out = load(scene="colour"), load("held_out", scene="colour")
    assert train.spec["tokens"] == held_out.spec["tokens"]
    assert (held_out.source.arrays["tokens"] != 0).all()
    every = captions.every_caption("colour")
    assert len(every) == len(set(every)) == 3 * 10 * 6 * 7
    assert set(said(train)) <= set(every)
    alone = set(said(load(scene="colour", paraphrases=False)))
    assert alone < set(every) and all(text.count(" on ") == 1 for text in alone)


def test_articles_are_those_of_english():
    every = " ".join(captions.every_caption("colour") + captions.every_caption("pair"))
    for wrong in ("a eight", "a orange", "an one", "an two"):
        assert f" {wrong}" not in every
    assert "an eight right of a one" in every


def test_what_is_long_is_cut_and_what_is_unknown_is_zero():
    words = captions.caption_vocabulary(["a red seven"])
    assert words.tokens == (data.UNKNOWN, "", " red", " seven", "a")
    rows = captions.caption_tokens(["a blue seven", "a red seven"], words, 2)
    assert rows.dtype == np.int32 and rows.tolist() == [[4, 0], [4, 2]]
    with pytest.raises(ValueError, match="which has a token for padding"):
        captions.caption_tokens(["a"], data.Vocabulary("word", (data.UNKNOWN, "a")), 2)


def test_a_seed_draws_other_colours_and_the_same_digits():
    one, again, other = load(), load(), load(seed=1)
    np.testing.assert_array_equal(one.source.arrays["x"], again.source.arrays["x"])
    np.testing.assert_array_equal(one.source.arrays["label"], other.source.arrays["label"])
    assert (one.source.arrays["colour"] != other.source.arrays["colour"]).any()


@pytest.mark.parametrize("split, options, message", [
    ("held_out", dict(scene="plain"), "has the splits train, test, got 'held_out'; nothing of it"),
    ("validation", {}, "has the splits train, test, held_out, got 'validation'"),
    ("train", dict(scene="three"), "scene must be 'plain', 'colour' or 'pair'"),
    ("train", dict(memory_limit_mib=0), "are held in memory: raise data.memory_limit_mib"),
])  # fmt: skip
def test_what_cannot_be_is_refused(split, options, message):
    with pytest.raises(ValueError, match=message):
        load(split, **options)


def test_mnist_has_captions_too(tfds_dir):
    made = data.load("captioned_digits", "test[:5]", data_dir=str(tfds_dir), scene="pair")
    assert made.event_shape == (28, 56, 1) and len(said(made)) == 5


def test_prompts_become_the_tokens_of_captions():
    made = load(scene="colour")
    feature, rows = made.spec["tokens"], made.source.arrays["tokens"]
    np.testing.assert_array_equal(data.tokens_of(said(made)[:20], feature), rows[:20])
    # What no caption begins with, or is written otherwise, is the same word all the same.
    tokens = data.tokens_of(["Red  seven on green", "seven"], feature)
    assert tokens.dtype == np.int32 and tokens.shape == (2, *feature.shape)
    assert feature.vocabulary.decode(tokens) == [" red seven on green", " seven"]
    assert data.tokens_of([], feature).shape == (0, *feature.shape)


@pytest.mark.parametrize("prompts, message", [
    (["a purpel seven"], "have no word 'purpel'; did you mean 'purple'?"),
    (["a xylograph"], "have no word 'xylograph'; it has words such as a, an, black, blue"),
    (["a purpel seven", "a sevn, blau"], "none of the words 'purpel' (did you mean 'purple'?), "
     "'sevn' (did you mean 'seven'?), 'blau'"),
    (["a red seven", "  "], "a prompt is empty: expected words such as a, an"),
    (["red " * 12], "has 12 tokens, and those that the model was trained on have at most"),
])  # fmt: skip
def test_prompts_that_captions_have_no_words_for_are_refused(prompts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        data.tokens_of(prompts, load(scene="colour").spec["tokens"])


def test_prompts_are_of_captions_alone():
    with pytest.raises(ValueError, match="expected a feature of captions"):
        data.tokens_of(["a"], data.Feature((3,), np.dtype(np.int32)))


def test_captions_alone_are_text_of_the_same_numbers():
    text = data.load("captions", "test", of=dict(name="captioned_digits", images="digits"))
    made = load("test")
    data.check_rows(text)
    assert text.vocabulary == made.spec["tokens"].vocabulary
    assert text.num_levels == text.vocabulary.size and text.spec["x"].dtype == np.uint8
    np.testing.assert_array_equal(text.source.arrays["x"], made.source.arrays["tokens"])
    assert text.vocabulary.decode(text.source.arrays["x"]) == said(made)
    by_default = data.load("captions", "test")
    np.testing.assert_array_equal(by_default.source.arrays["x"], text.source.arrays["x"])
    with pytest.raises(ValueError, match="digits has no captions: expected a data set with"):
        data.load("captions", "train", of=dict(name="digits"))
    with pytest.raises(ValueError, match="of must have the name of a data set"):
        data.load("captions", "train", of=dict(images="digits"))
