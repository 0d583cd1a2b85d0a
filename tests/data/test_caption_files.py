"""Captions of pictures in folders: every caption belongs to its picture, or it is said why not."""

import json
import re

import numpy as np
import pytest
from absl import logging
from PIL import Image

from genjax import data

WORDS = ("red", "green", "blue", "grey")


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(path)


def caption(level, split="train"):
    return f"a {WORDS[level % 4]} square{' at night' if split == 'test' else ''}"


@pytest.fixture
def folder(tmp_path):
    """Pictures whose level says which caption is theirs, without captions yet."""
    for split, levels in (("train", range(10, 18)), ("test", range(50, 54))):
        for level in levels:
            picture(tmp_path / "set" / split / f"{level}.png", level)
    return tmp_path / "set"


def lines_of(folder, split, *, from_above=False):
    names = sorted(path.name for path in (folder / split).glob("*.png"))
    prefix = f"{split}/" if from_above else ""
    return [(f"{prefix}{name}", caption(int(name[:2]), split)) for name in names]


def write_csv(path, lines, header="file_name,text"):
    path.write_text("\n".join([header, *(f'{name},"{text}"' for name, text in lines)]) + "\n")


def load(folder, split="train", **options):
    return data.load("images", split, data_dir=str(folder), captions=True, **options)


def said(dataset):
    rows = dataset.source.rows(np.arange(len(dataset.source)))
    texts = dataset.spec["tokens"].vocabulary.decode(rows["tokens"])
    return list(zip(rows["x"][:, 0, 0, 0].tolist(), texts, strict=True))


def write(folder, kind):
    for split in ("train", "test"):
        lines = lines_of(folder, split)
        if kind == "texts":
            for name, text in lines:
                (folder / split / name).with_suffix(".txt").write_text(f"{text}\n")
        elif kind == "jsonl":
            rows = (json.dumps({"caption": text, "file_name": name}) for name, text in lines)
            (folder / split / "captions.jsonl").write_text("\n".join(rows))
        elif kind == "csv":
            write_csv(folder / split / "metadata.csv", lines[::-1])
    if kind == "above":
        both = [line for s in ("train", "test") for line in lines_of(folder, s, from_above=True)]
        write_csv(folder / "captions.csv", both, "file,text")


@pytest.mark.parametrize("limit", [0, 2048])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "texts", "above"])
def test_captions_belong_to_their_pictures(folder, kind, limit):
    write(folder, kind)
    train, test = (load(folder, s, memory_limit_mib=limit) for s in ("train", "test"))
    assert said(train) == [(level, caption(level)) for level in range(10, 18)]
    data.check_rows(train)
    # Words that training never had are unknown, and what is longer than its captions is cut.
    assert train.spec == test.spec and train.spec["tokens"].shape == (4,)
    unknown = data.UNKNOWN
    assert said(test) == [(level, f"{caption(level)}{unknown}") for level in range(50, 54)]
    tokens = data.tokens_of(["Red square"], train.spec["tokens"])
    assert train.spec["tokens"].vocabulary.decode(tokens) == [" red square"]


def test_the_words_are_those_of_the_training_share_alone(tmp_path):
    lines = [(f"{i:02}.png", f"number {i}") for i in range(20)]
    for i in range(20):
        picture(tmp_path / f"{i:02}.png", i)
    write_csv(tmp_path / "captions.csv", lines)
    train, test = load(tmp_path, holdout=0.25), load(tmp_path, "test", holdout=0.25)
    assert len(train.source) == 15 and train.spec == test.spec
    assert all(text == f"number {level}" for level, text in said(train))
    assert {text for _, text in said(test)} == {f"number{data.UNKNOWN}"}
    known = load(tmp_path, holdout=0.25, min_count=2).spec["tokens"].vocabulary
    assert known.tokens == (data.UNKNOWN, "", "number")


def test_a_picture_with_several_captions_is_several_rows(folder):
    write(folder, "csv")
    file = folder / "train" / "metadata.csv"
    file.write_text(file.read_text() + '11.png,"on grass, a square"\n')
    expected = sorted([(level, caption(level)) for level in range(10, 18)])
    expected.insert(2, (11, "on grass, a square"))
    assert said(load(folder)) == expected
    file.unlink()
    rows = [
        {"file_name": f"{level}.png", "text": [caption(level), "so"]} for level in range(10, 18)
    ]
    (folder / "train" / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    both = said(load(folder))
    assert both[:2] == [(10, caption(10)), (10, "so")] and len(both) == 16


def test_classes_go_with_captions(tmp_path):
    for i, kind in enumerate(["cats", "dogs"] * 4):
        picture(tmp_path / kind / f"{i}.png", i)
        (tmp_path / kind / f"{i}.txt").write_text(f"one of the {kind}\n\nnumber {i}\n")
    made = load(tmp_path, holdout=0.2)
    names = made.spec["label"].class_names
    rows = made.source.rows(np.arange(len(made.source)))
    texts = made.spec["tokens"].vocabulary.decode(rows["tokens"])
    for level, label, text in zip(rows["x"][:, 0, 0, 0], rows["label"], texts, strict=True):
        assert text in (f"one of the {names[label]}", f"number {level}")
    assert len(texts) == 12


def test_how_many_captions_are_cut_is_said(folder, monkeypatch):
    write(folder, "csv")
    told = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: told.append(text % args))
    load(folder)
    assert not told
    made = load(folder, caption_length=2)
    assert said(made)[0] == (10, "a blue")
    assert re.search(
        r"8 of 8 captions have more than 2 tokens and are cut; the longest has 3", *told
    )


def broken(change):
    def apply(folder):
        write(folder, "csv")
        change(folder / "train", folder / "train" / "metadata.csv")

    return apply


@broken
def no_caption(train, file):
    file.write_text("\n".join(file.read_text().splitlines()[:-2]))


@broken
def no_picture(train, file):
    (train / "12.png").unlink()


@broken
def nothing(train, file):
    file.unlink()


@broken
def twice(train, file):
    file.write_text(file.read_text() + f"10.png,{caption(10)}\n")


@broken
def empty(train, file):
    file.write_text(file.read_text() + "10.png, \n")


@broken
def latin(train, file):
    file.write_bytes(file.read_bytes() + "10.png,größer\n".encode("latin-1"))


@broken
def commas(train, file):
    file.write_text(file.read_text() + "10.png,red, green\n")


@broken
def column(train, file):
    file.write_text(file.read_text().replace("text", "said"))


@broken
def two_tables(train, file):
    (train / "captions.jsonl").write_text("")


@broken
def no_json(train, file):
    file.unlink()
    (train / "captions.jsonl").write_text("{}\n".replace("{}", "{'file_name'"))


@broken
def no_text(train, file):
    file.unlink()
    (train / "captions.jsonl").write_text('{"file_name": "10.png", "text": 3}')


@broken
def loose_text(train, file):
    file.unlink()
    (train / "README.txt").write_text("hello")


@broken
def one_text_for_two(train, file):
    file.unlink()
    picture(train / "10.jpg", 10)
    (train / "10.txt").write_text("hello")


@pytest.mark.parametrize("apply, message", [
    (no_caption, r"2 of 8 pictures in .*train have no caption in .*metadata\.csv, such as 10\.png"),
    (no_picture, r"line 7 of .*metadata\.csv has a caption of 12\.png, but there is no such pic"),
    (nothing, r"have no captions beside them: expected captions\.csv, .* or metadata\.jsonl"),
    (twice, r"line 10 of .* has a caption of 10\.png that it has already: 'a blue square'"),
    (empty, r"line 10 of .*metadata\.csv has an empty caption of 10\.png"),
    (latin, r"metadata\.csv is not UTF-8 .*save it as UTF-8"),
    (commas, r"line 10 of .* has 3 cells, and its header 2: captions with commas must stand in q"),
    (column, r"line 2 of .* has no text or caption; it has file_name, said"),
    (two_tables, r"expected one file of captions, found .*captions\.jsonl and .*metadata\.csv"),
    (no_json, r"line 1 of .*captions\.jsonl is no JSON"),
    (no_text, r"line 1 of .*captions\.jsonl has a path or a caption that is no text: .*, 3"),
    (loose_text, r"README\.txt lies beside no picture of its name: move it away"),
    (one_text_for_two, r"10\.txt has the captions of two pictures, .*10\.jpg and .*10\.png"),
])  # fmt: skip
def test_what_is_wrong_with_captions_is_said_in_one_line(folder, apply, message):
    apply(folder)
    with pytest.raises((ValueError, data.DamagedDataError), match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_options_of_captions_that_do_not_fit_are_refused(folder):
    write(folder, "csv")
    with pytest.raises(ValueError, match=r"data\.options\.captions is not True"):
        data.load("images", "train", data_dir=str(folder), caption_length=3)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        load(folder, caption_length=0)
    with pytest.raises(data.MissingDataError, match="there is no file"):
        load(folder, tokenizer=str(folder / "tokenizer.json"))
    with pytest.raises(ValueError, match="has no said; it has file_name, text"):
        load(folder, caption_column="said")
