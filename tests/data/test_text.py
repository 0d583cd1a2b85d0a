"""Text: nothing is lost on the way to numbers and back, and the test split is no part of it."""

import dataclasses

import numpy as np
import pytest

import genjax
from genjax import data
from genjax.config import ConfigError
from genjax.data import UNKNOWN
from genjax.data.vocabulary import Vocabulary, vocabulary_of

SENTENCE = "Ünlike  cats, dogs_2 don't:\n\n    purr — ever!\tYes…"


def load(split, place=None, **options):
    return data.load("text", split, data_dir=None if place is None else str(place), **options)


def read(dataset):
    return "".join(dataset.vocabulary.decode(dataset.source.arrays["x"]))


@pytest.mark.parametrize("kind", ["byte", "character", "word"])
def test_a_text_is_the_same_after_numbers(kind):
    vocabulary = vocabulary_of(SENTENCE, kind, 1)
    numbers = vocabulary.encode(SENTENCE)
    assert vocabulary.decode(numbers[None]) == [SENTENCE]
    assert numbers.dtype == vocabulary.dtype == np.uint8 and numbers.max() < vocabulary.size
    assert len(numbers) == {"byte": len(SENTENCE.encode()), "character": 50, "word": 21}[kind]


def test_a_vocabulary_is_what_is_frequent_and_the_rest_is_unknown():
    vocabulary = vocabulary_of("b a b c a b d", "word", 2)
    assert vocabulary.tokens == (UNKNOWN, " a", " b")  # the first b has no space before it
    assert vocabulary_of("bdbac", "character", 1).tokens == (UNKNOWN, "b", "a", "c", "d")
    seen = Vocabulary("character", (UNKNOWN, "a"))
    assert seen.encode(f"a{UNKNOWN}b").tolist() == [1, 0, 0]
    assert vocabulary_of(f"{UNKNOWN}a", "character", 1).tokens == (UNKNOWN, "a")
    assert Vocabulary("byte").decode(np.array([[195, 164, 195]])) == [f"ä{UNKNOWN}"]
    many = Vocabulary("word", tuple(map(str, range(257))))
    assert many.dtype == np.int32 and many.encode("256").dtype == np.int32


@pytest.mark.parametrize("rows", [[[0.0]], [0, 1], [[0, 2]], [[-1]]])
def test_what_is_no_number_of_a_token_has_no_text(rows):
    with pytest.raises(ValueError, match=r"expected whole numbers \[N, T\] from 0 to 1, got"):
        Vocabulary("character", (UNKNOWN, "a")).decode(np.array(rows))


def test_a_file_is_cut_into_windows_and_its_end_is_held_out(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("abcdef \n"), 1000))
    text = text[:900] + "zzz" + text[903:]
    (tmp_path / "notes.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    options = dict(tokens="character", length=7, holdout=0.2)
    train, test = (load(s, tmp_path / "notes.txt", **options) for s in ("train", "test"))
    end = round(0.8 * len(text))
    assert train.name == "notes" and train.event_shape == (7,) and train.num_levels == 9
    assert read(train) == text[: end // 7 * 7]
    held_out = text[end:].replace("z", UNKNOWN)
    assert read(test) == held_out[: len(held_out) // 7 * 7] and UNKNOWN in read(test)
    assert train.vocabulary == test.vocabulary
    part = load("train[:50%]", tmp_path / "notes.txt", **options)
    assert part.vocabulary == train.vocabulary and len(part.source) == round(end // 7 / 2)
    in_bytes = load("train", tmp_path / "notes.txt", tokens="byte", length=7)
    assert in_bytes.num_levels == 256 and in_bytes.spec["x"].dtype == np.uint8
    data.check_rows(train)


def test_a_folder_has_splits_or_is_one_text(tmp_path):
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "train.txt").write_text("abababab")
    (tmp_path / "split" / "test.txt").write_text("acac")
    train, test = (load(s, tmp_path / "split", length=4) for s in ("train", "test"))
    assert read(train) == "abababab" and read(test) == f"a{UNKNOWN}a{UNKNOWN}"
    with pytest.raises(data.MissingDataError, match=r"there is no file .*valid\.txt"):
        load("valid", tmp_path / "split")
    place = tmp_path / "whole" / "inner"
    place.mkdir(parents=True)
    (tmp_path / "whole" / "b.txt").write_text("bbbb")
    (place / "c.txt").write_text("cccc")
    (tmp_path / "whole" / "a.txt").write_text("aaaa")
    (tmp_path / "whole" / "picture.png").write_bytes(b"\x89PNG")
    assert read(load("train", tmp_path / "whole", length=1, min_count=1)) == "aaaa\nbbbb\ncccc"[:13]


def test_the_text_of_python_is_english_that_the_test_split_does_not_repeat():
    train, test = (load(s, tokens="character", length=64) for s in ("train", "test"))
    known, held_out = read(train), read(test)
    assert len(known) > 100_000 and 0.1 < len(held_out) / len(known) < 0.12
    assert known.count(" the ") > 1000 and 60 < train.num_levels < 256
    starts = range(0, len(held_out) - 64, 16)
    windows = {known[i : i + 64] for i in range(len(known) - 63)}
    assert np.mean([held_out[i : i + 64] in windows for i in starts]) < 0.02
    words = load("train", tokens="word", length=16)
    assert words.spec["x"].dtype == np.int32 and 1000 < words.num_levels < 10_000
    data.check_rows(words)
    assert {"Python", "sha256", "characters"} == set(words.origin)


def test_a_run_does_not_go_on_with_other_words(tmp_path):
    (tmp_path / "a.txt").write_text("one two one two one two " * 4)
    (tmp_path / "b.txt").write_text("six ten six ten six ten " * 4)
    a, b = (load("train", tmp_path / f"{n}.txt", tokens="word", length=4) for n in "ab")
    np.testing.assert_array_equal(a.source.arrays["x"], b.source.arrays["x"])
    ours, theirs = data.identity(a), data.identity(b)
    said = data.difference(ours, theirs)
    assert said.startswith("another vocabulary of x; it comes of characters 86, sha256 ")
    assert data.difference(ours, ours) is None
    elsewhere = dataclasses.replace(a, name="moved", origin={"Python": "9"})
    assert data.difference(ours, data.identity(elsewhere)) is None


@pytest.mark.parametrize("options, message", [
    (dict(length=0), "length must be at least 1, got 0"),
    (dict(length=10**6), r"the train split of text has \d+ characters, fewer than one example"),
    (dict(tokens="letter"), "tokens must be 'byte', 'character' or 'word', got 'letter'"),
    (dict(min_count=0), "min_count must be at least 1, got 0"),
    (dict(holdout=1.0), "holdout must be between 0 and 1, got 1.0"),
    (dict(memory_limit_mib=0), "texts are held in memory; raise data.memory_limit_mib"),
])  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load("train", **options)


def test_files_that_are_no_text_and_splits_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ValueError, match="has train and test, got 'valid'"):
        load("valid")
    with pytest.raises(data.MissingDataError, match=r"there is no file .*nowhere\.txt"):
        load("train", tmp_path / "nowhere.txt")
    with pytest.raises(data.MissingDataError, match=r"there are no \.txt files in"):
        load("train", tmp_path)
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1") * 50)
    with pytest.raises(data.DamagedDataError, match=r"latin\.txt is not UTF-8 .*save it as UTF-8"):
        load("train", tmp_path / "latin.txt")


def test_bits_are_not_drawn_of_text():
    mlp = dict(name="mlp", hidden_size=4, num_layers=1)
    config = dict(
        data=dict(name="text", options=dict(length=4), batch_size=4, binarize="dynamic"),
        model=dict(encoder=mlp, decoder=mlp),
        family=dict(name="vae", observation=dict(name="bernoulli")),
        optimizer=dict(name="adam"),
        train=dict(num_steps=1),
    )
    with pytest.raises(ConfigError, match=r"data\.binarize: text is text; bits are"):
        genjax.build(config)
