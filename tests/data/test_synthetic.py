"""Images, labels and texts of noise."""

import importlib

import numpy as np
import pytest

import genjax
from genjax import data

# The package has a function of that name.
moments = importlib.import_module("genjax.data.moments")


def test_rows_are_the_same_whenever_they_are_asked_for_and_others_in_each_split():
    options = dict(size=4, num_classes=5, text_length=6, num_tokens=9, num_rows=300)
    train, test = (data.load("synthetic", split, **options) for split in ("train", "test"))
    rows = train.source.rows(np.arange(300))
    assert {name: (a.shape, a.dtype.name) for name, a in rows.items()} == {
        "x": ((300, 4, 4, 3), "uint8"), "label": ((300,), "int32"), "tokens": ((300, 6), "int32"),
    }  # fmt: skip
    again = train.source.rows(np.array([7, 3]))
    assert all((again[name] == rows[name][[7, 3]]).all() for name in rows)
    assert (train.source.column("tokens") == rows["tokens"]).all()
    assert train.source.column("x") is None
    other = test.source.rows(np.arange(300))
    assert all((other[name] != rows[name]).any() for name in rows)
    # Uniform over all values.
    assert set(rows["label"]) == set(range(5)) and set(rows["tokens"].flat) == set(range(9))
    assert rows["x"].min() == 0 and rows["x"].max() == 255
    assert abs(rows["x"].mean() - 127.5) < 5 * 73.9 / np.sqrt(rows["x"].size)
    assert train.spec["tokens"].vocabulary.decode(np.array([[2, 8, 1]])) == [" 0 6"]
    assert set(data.load("synthetic", "train", size=2).spec) == {"x"}


def test_the_deviation_of_large_images_is_of_few_at_a_time_and_of_a_billion_pixels(monkeypatch):
    dataset = data.load("synthetic", "train", size=256, num_rows=60)
    read = []
    rows = type(dataset.source).rows
    monkeypatch.setattr(
        type(dataset.source), "rows", lambda self, at: read.append(len(at)) or rows(self, at)
    )
    # Of a uniform grey level: 2 / sqrt(12) but for the ends.
    assert data.deviation(dataset) == pytest.approx(2 / 12**0.5, rel=1e-3)
    assert sum(read) == 60 and max(read) * 256 * 256 * 3 <= 2**25
    read.clear()
    monkeypatch.setattr(moments, "_NUM_ENTRIES", 10 * 256 * 256 * 3)
    assert data.deviation(dataset) == pytest.approx(2 / 12**0.5, rel=1e-2)
    assert sum(read) == 10


@pytest.mark.parametrize("options, message", [
    (dict(split="validation"), "has the splits train and test, got 'validation'"),
    (dict(size=0), "expected sizes of at least 1, and 3 tokens, got {'size': 0}"),
    (dict(num_tokens=2, text_length=3), "and 3 tokens, got {'num_tokens': 2}"),
])  # fmt: skip
def test_sizes_and_splits_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        data.load("synthetic", **{"split": "train", **options})


def test_a_run_can_be_timed_on_noise(tmp_path):
    config = dict(
        data=dict(name="synthetic", batch_size=4, options=dict(size=8, num_classes=3, num_rows=8)),
        model=dict(name="linear"),
        family=dict(name="classifier", ema_decay=0.9),
        optimizer=dict(name="adam"),
        train=dict(num_steps=2, eval_every=0),
    )
    run = genjax.Run(genjax.build(config), tmp_path, quiet=True)
    run.train()
    assert int(run.state.step) == 2
