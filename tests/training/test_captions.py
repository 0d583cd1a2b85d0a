"""Runs on captions: their words are those that the run was trained on, or it is refused."""

import json

import numpy as np
import pytest
from PIL import Image

import genjax
from genjax.training import workdir
from genjax.training.workdir import WorkdirError


@pytest.fixture
def config(tmp_path):
    """A tiny language model of the captions of a folder."""
    for i in range(8):
        path = tmp_path / "set" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(path)
        path.with_suffix(".txt").write_text(f"a {('red', 'blue')[i % 2]} square")
    return dict(
        data=dict(
            name="captions",
            data_dir=str(tmp_path / "set"),
            batch_size=4,
            options=dict(of=dict(name="images", captions=True, holdout=0.25)),
        ),
        model=dict(name="transformer", hidden_size=8, num_heads=2, num_blocks=1),
        family=dict(name="autoregressive", observation=dict(name="categorical")),
        optimizer=dict(name="adam"),
        train=dict(num_steps=1, eval_every=0, sample_every=0),
        sample=dict(num_samples=2),
    )


def test_a_run_keeps_its_words_and_refuses_others(config, tmp_path):
    run = genjax.Run(genjax.build(config), tmp_path / "run", quiet=True)
    run.train()
    words = run.experiment.train_data.vocabulary
    kept = json.loads((tmp_path / "run" / "vocabulary.json").read_text())
    assert kept == {"x": dict(kind="word", tokens=list(words.tokens))}
    assert kept["x"]["tokens"][2:] == [" blue", " red", " square", "a"]
    run.draw()
    drawn = np.load(tmp_path / "run" / "samples" / "step_00000001_sample.npz")["samples"]
    text = (tmp_path / "run" / "samples" / "step_00000001_sample.txt").read_text()
    assert all(line in text for line in words.decode(drawn))
    assert genjax.load(tmp_path / "run", quiet=True).newest()[0] == 1

    # As many words, and one of them another.
    for i in range(8):
        path = tmp_path / "set" / f"{i}.txt"
        path.write_text(path.read_text().replace("red", "green"))
    with pytest.raises(WorkdirError, match=r"another vocabulary of x") as said:
        genjax.Run(genjax.build(config), tmp_path / "run", quiet=True).train()
    assert "\n" not in str(said.value)
    later = genjax.load(tmp_path / "run", quiet=True)
    with pytest.raises(WorkdirError, match=r"the vocabulary of x is not that of the run") as said:
        later.sample(2)
    assert "\n" not in str(said.value) and "vocabulary.json" in str(said.value)
    allowed = genjax.Run(
        genjax.build(config), tmp_path / "run", quiet=True, allow_config_change=True
    )
    assert allowed.newest()[0] == 1


def test_a_tokenizer_may_move(tmp_path):
    one, other = (
        {"data": {"options": {"tokenizer": f"{folder}/tokenizer.json", "size": 8}}}
        for folder in "ab"
    )
    workdir.check_config(tmp_path, one, other, training=True)
    other["data"]["options"]["size"] = 9
    with pytest.raises(WorkdirError, match=r": data\.options\.size; use another"):
        workdir.check_config(tmp_path, one, other, training=True)
