"""Tokenizers of a user's: their numbers are those of their package, and text comes back."""

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from genjax import data
from genjax.data import captions, subwords

TEXTS = ["a red seven on green", "an eight left of a two"]


class FakeTokenizer:
    """What genjax asks of ``tokenizers.Tokenizer``, of words between spaces."""

    def __init__(self, definition):
        self.numbers = json.loads(definition)["model"]["vocab"]
        self.padded = self.cut = True

    from_str = classmethod(lambda cls, definition: cls(definition))

    def no_padding(self):
        self.padded = False

    def no_truncation(self):
        self.cut = False

    def get_vocab(self, with_added_tokens):
        return self.numbers

    def token_to_id(self, token):
        return self.numbers[token]

    def encode(self, text):
        assert not self.padded and not self.cut
        words = text.split()
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        return types.SimpleNamespace(
            ids=[self.numbers.get(word, 0) for word in words],
            offsets=[(int(a), int(a) + len(w)) for a, w in zip(starts, words, strict=False)],
        )

    def decode(self, ids, skip_special_tokens):
        words = {number: word for word, number in self.numbers.items()}
        return " ".join(words[i] for i in ids)


def definition_of(texts, **sections):
    words = dict.fromkeys(["[UNK]", "[PAD]", *(w for text in texts for w in text.split())])
    vocab = {word: number for number, word in enumerate(words)}
    # As the package itself writes it: both read the same file.
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
        **sections,
    })  # fmt: skip


@pytest.fixture(params=["real", "fake"])
def package(request, monkeypatch):
    """The package itself where it is installed, and what stands for it elsewhere."""
    subwords._tokenizer.cache_clear()
    if request.param == "fake":
        fake = types.SimpleNamespace(Tokenizer=FakeTokenizer)
        monkeypatch.setitem(sys.modules, "tokenizers", fake)
    else:
        pytest.importorskip("tokenizers", reason="the extra genjax-train[tokenizers]")
    yield
    subwords._tokenizer.cache_clear()


def vocabulary_of(definition):
    return data.Vocabulary("subword", subwords.tokens_in(definition), definition)


def test_captions_become_numbers_and_text_again(package):
    words = vocabulary_of(definition_of(TEXTS))
    assert words.tokens[:3] == ("[UNK]", "[PAD]", "a") and words.size == 12 and words.padding == 1
    rows = captions.caption_tokens(TEXTS, words, 7)
    assert rows.tolist() == [[2, 3, 4, 5, 6, 1, 1], [7, 8, 9, 10, 2, 11, 1]]
    assert words.decode(rows) == TEXTS
    feature = data.Feature((3,), np.dtype(np.int32), vocabulary=words)
    assert data.tokens_of(["a red two"], feature).tolist() == [[2, 3, 11]]
    with pytest.raises(ValueError, match="the tokenizer has no tokens for 'purpel', 'Sonne'"):
        data.tokens_of(["a purpel", "Sonne red"], feature)
    with pytest.raises(ValueError, match="has 5 tokens, and those that the model was trained on"):
        data.tokens_of(TEXTS[:1], feature)


def test_padding_is_what_the_definition_says_it_is(package):
    section = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None,
               "pad_id": 4, "pad_type_id": 0, "pad_token": "seven"}  # fmt: skip
    words = vocabulary_of(definition_of(TEXTS, padding=section))
    assert words.padding == 4
    # Rows are filled up by genjax, not by the tokenizer.
    assert captions.caption_tokens(["a two"], words, 4).tolist() == [[2, 11, 4, 4]]


def test_another_definition_is_another_vocabulary(package):
    lowered = definition_of(TEXTS, normalizer={"type": "Lowercase"})
    spec = {
        name: data.Feature((3,), np.dtype(np.int32), vocabulary=vocabulary_of(definition))
        for name, definition in (("a", definition_of(TEXTS)), ("b", lowered))
    }
    found = data.vocabularies(spec)
    assert spec["a"].vocabulary.tokens == spec["b"].vocabulary.tokens
    assert found["a"]["size"] == found["b"]["size"] and found["a"] != found["b"]
    assert spec["a"].vocabulary.as_json()["definition"] == definition_of(TEXTS)


def test_folders_of_pictures_take_a_tokenizer(package, tmp_path):
    for i, text in enumerate(TEXTS * 2):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(text)
    file = tmp_path / "json" / "tokenizer.json"
    file.parent.mkdir()
    file.write_text(definition_of(TEXTS))
    load = lambda **options: data.load(  # noqa: E731
        "images", "train", data_dir=str(tmp_path), captions=True, tokenizer=str(file), **options
    )
    made = load()
    tokens = made.spec["tokens"]
    assert tokens.num_classes == 12 and tokens.shape == (7,) and tokens.vocabulary.kind == "subword"
    assert set(tokens.vocabulary.decode(made.source.arrays["tokens"])) == set(TEXTS)
    with pytest.raises(ValueError, match="min_count is of words"):
        load(min_count=2)
    file.write_text(definition_of(TEXTS).replace("[PAD]", "[NONE]"))
    with pytest.raises(ValueError, match=r"tokenizer\.json has no token to fill captions up with"):
        load()


def test_what_is_no_tokenizer_is_refused():
    pytest.importorskip("tokenizers", reason="the extra genjax-train[tokenizers]")
    with pytest.raises(data.DamagedDataError, match=r"expected the content of a tokenizer\.json"):
        subwords.tokens_in('{"model": 3}')


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    subwords._tokenizer.cache_clear()
    with pytest.raises(
        data.MissingDataError, match=r"pip install 'genjax-train\[tokenizers\]'"
    ) as said:
        subwords.tokens_in(definition_of(TEXTS))
    assert "\n" not in str(said.value)
