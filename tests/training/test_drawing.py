"""What a run draws: files beside each other, and pictures that never end it."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import genjax
from genjax.training import pictures


def config(folder, x, net, **sections):
    for split in ("train", "test"):
        np.save(folder / f"{split}.npy", x)
    return dict(
        data=dict(name="npy", data_dir=str(folder), batch_size=20),
        model=net,
        family=dict(name="vdm", schedule=dict(name="fixed_linear")),
        optimizer=dict(name="adam"),
        train=dict(num_steps=2, log_every=1, eval_every=0, sample_every=1, checkpoint_every=1),
        eval=dict(batch_size=100),
        sample=dict(num_samples=7, num_steps=3),
        **sections,
    )


NETS = {
    (8, 8, 1): dict(name="score_resnet", channels=4, num_layers=1, num_groups=2),
    (1,): dict(name="score_mlp", hidden_size=8, num_layers=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", NETS)
def test_images_of_real_numbers_and_single_numbers_are_drawn_and_do_not_end_a_run(tmp_path, shape):
    x = np.random.default_rng(0).uniform(size=(60, *shape)).astype(np.float32)
    made = genjax.build(config(tmp_path, x, NETS[shape]))
    run = genjax.Run(made, tmp_path / "run", quiet=True)
    run.train()
    folder = tmp_path / "run" / "samples"
    stems = {f"step_0000000{n}" for n in (1, 2)}
    expected = {f"{stem}{end}" for stem in stems for end in (".npz", ".png", "_trajectory.png")}
    names = {path.name for path in folder.iterdir()}
    assert names >= expected
    with np.load(folder / "step_00000002.npz") as file:
        assert file["samples"].shape == (7, *shape)
    # Drawn again, beside what training drew.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run.draw()
    ends = (".npz", ".png", "_trajectory.png")
    more = {path.name for path in folder.iterdir()} - names
    assert more >= {f"step_00000002_sample{end}" for end in ends}
    assert all((folder / name).read_bytes() == content for name, content in before.items())
    same = folder / "step_00000002_sample.png"
    np.testing.assert_array_equal(Image.open(same), Image.open(folder / "step_00000002.png"))


def test_a_picture_that_fails_is_said_in_one_line_and_the_others_are_drawn(
    tmp_path, monkeypatch, caplog
):
    def fails(*args):
        raise RuntimeError("no such\ncolour")

    monkeypatch.setattr(pictures, "trajectory_picture", fails)
    x = np.random.default_rng(0).uniform(size=(60, 1)).astype(np.float32)
    run = genjax.Run(genjax.build(config(tmp_path, x, NETS[(1,)])), tmp_path / "run", quiet=True)
    with caplog.at_level(logging.WARNING):
        run.train()
    said = [r.getMessage() for r in caplog.records if "no picture of" in r.getMessage()]
    assert [line[:31] for line in said] == [
        f"step {n}: no picture of trajectory"[:31] for n in (1, 2)
    ]
    assert all("RuntimeError: no such colour" in line and "\n" not in line for line in said)
    names = {path.name for path in (tmp_path / "run" / "samples").iterdir()}
    assert {"step_00000002.npz", "step_00000002.png"} <= names
    assert "step_00000002_trajectory.png" not in names


@pytest.mark.slow
def test_values_that_are_not_finite_are_counted_in_pictures_and_measures(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    sections = config(tmp_path, x, NETS[(1,)])
    sections["eval"] = dict(batch_size=100, metrics=("w1",), num_samples=30)
    run = genjax.Run(genjax.build(sections), tmp_path / "run")
    run.train()
    step, state = run.newest()
    run._held = step, state.replace(ema=jax.tree.map(lambda p: p * jnp.nan, state.ema))
    capsys.readouterr()
    run.draw()
    said = capsys.readouterr().out
    with np.load(tmp_path / "run/samples/step_00000002_sample.npz") as file:
        assert np.isnan(file["samples"]).all()
    assert "_sample.png" in said and "values that are not finite are left out" in said
    found = run.evaluate()
    assert np.isnan(found["eval/w1"]) and found["eval/w1_num_nonfinite"] == 30


def test_samples_of_text_are_written_as_text(tmp_path, monkeypatch, caplog, capsys):
    (tmp_path / "news.txt").write_text("a cat sat on a mat. " * 40)
    mlp = dict(name="mlp", hidden_size=4, num_layers=1)
    made = genjax.build(
        dict(
            data=dict(
                name="text", data_dir=str(tmp_path / "news.txt"), options=dict(length=6),
                batch_size=10,
            ),
            model=dict(encoder=mlp, decoder=mlp),
            family=dict(name="vae", observation=dict(name="categorical"), latent_size=2),
            optimizer=dict(name="adam"),
            train=dict(num_steps=1, eval_every=0, sample_every=1),
            sample=dict(num_samples=3),
        )
    )  # fmt: skip
    run = genjax.Run(made, tmp_path / "run")
    run.train()
    folder = tmp_path / "run" / "samples"
    assert {path.name for path in folder.iterdir()} == {"step_00000001.npz", "step_00000001.txt"}
    with np.load(folder / "step_00000001.npz") as file:
        assert file["num_levels"] == made.train_data.num_levels == 10
        texts = made.train_data.vocabulary.decode(file["samples"])
    written = (folder / "step_00000001.txt").read_text()
    assert written == "".join(f"--- {i} ---\n{text}\n" for i, text in enumerate(texts, 1))
    events = b"".join(p.read_bytes() for p in (tmp_path / "run" / "tensorboard").iterdir())
    assert b"samples/text_summary" in events and texts[2].encode() in events
    said = capsys.readouterr().out
    assert f"step 1: the first begins {texts[0]!r}" in said
    assert "step_00000001.txt" in said and "examples of shape (6,), of 10 tokens" in said

    exported = json.loads((run.export() / "vocabulary.json").read_text())
    assert exported == dict(kind="character", tokens=list(made.train_data.vocabulary.tokens))
    capsys.readouterr()

    def fails(*args):
        raise ValueError("no such\nword")

    monkeypatch.setattr(type(made.train_data.vocabulary), "decode", fails)
    with caplog.at_level(logging.WARNING):
        run.draw()
    (line,) = [r.getMessage() for r in caplog.records if "no text of samples" in r.getMessage()]
    assert line.endswith("(ValueError: no such word); the run goes on, the samples are in the .npz")
    assert "step_00000001_sample.npz" in capsys.readouterr().out
