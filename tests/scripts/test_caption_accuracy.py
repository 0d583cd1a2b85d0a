"""The table of captions, on a family that knows all images of the data by their captions."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import genjax

REPO = pathlib.Path(__file__).resolve().parents[2]
FAMILY = """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from genjax import data
    from genjax.config import Recipe
    from genjax.families.base import Family, Samples, TrainState


    def by_heart(*, sampling, spec):
        parts = [data.load("captioned_digits", split, images="digits").source.arrays
                 for split in ("test", "held_out")]
        images, tokens = (jnp.asarray(np.concatenate([part[name] for part in parts]))
                          for name in ("x", "tokens"))

        def init(key, batch):
            return TrainState(step=jnp.zeros((), jnp.int32), params={}, opt_state={},
                              model_state={}, ema={})

        def train_step(state, batch, key):
            return state.replace(step=state.step + 1), {"loss": jnp.zeros(())}

        def sample(state, key, batch):
            same = (batch["tokens"][:, None] == tokens).all(-1)
            found = same.argmax(1)
            if sampling.guidance is not None and sampling.guidance.scale == 0.0:
                found = jax.random.randint(key, found.shape, 0, len(images))
            return Samples(rows=images[found])

        said = {"sampler": f"by heart in {sampling.num_steps} steps, {sampling.guidance}"}
        return Family(init=init, train_step=train_step, sample=sample, eval_protocol={},
                      reconstruct=lambda state, batch, key: batch["x"][:, :, ::-1],
                      reads=("tokens", "source"), sample_protocol=said)


    RECIPE = Recipe(make=by_heart, optimizers=())
    """
SHORT = dict(num_steps=1, eval_every=0, sample_every=0)
JUDGE = dict(
    data=dict(name="digits", batch_size=64),
    model=dict(name="conv_classifier", channels=8, num_halvings=1, num_features=8),
    family=dict(name="classifier", ema_decay=0.9),
    optimizer=dict(name="adam", learning_rate=5e-3),
    train=dict(SHORT, num_steps=150),
)
MODEL = dict(
    data=dict(
        name="captioned_digits",
        options=dict(images="digits"),
        batch_size=8,
        transforms=[dict(name="shrink", factor=2)],
    ),
    family=dict(name="by_heart:RECIPE"),
    train=SHORT,
    sample=dict(num_steps=5),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with both runs and the module of the family."""
    place = tmp_path_factory.mktemp("captions")
    (place / "by_heart.py").write_text(textwrap.dedent(FAMILY))
    sys.path.insert(0, str(place))
    judged = dict(MODEL, eval=dict(features=dict(name="classifier", workdir=str(place / "judge"))))
    try:
        for name, config in (("judge", JUDGE), ("model", judged)):
            genjax.Run(genjax.build(config), place / name, quiet=True).train()
    finally:
        sys.path.remove(str(place))
    return place


def command(place, *words):
    env = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.run(
        [sys.executable, "scripts/caption_accuracy.py", *words],
        env=env, cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_images_known_by_heart_are_as_right_as_real_ones_and_shuffled_ones_by_chance(runs):
    done = command(
        runs, f"--workdir={runs / 'model'}", "--num_samples=150", "--batch_size=60",
        "--scales=1,0", "--num_steps=7", f"--figure={runs / 'figure.png'}",
        f"--results={runs / 'rows.jsonl'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (runs / "rows.jsonl").read_text().splitlines()]
    rows = {(row["split"], row["images"]): row for row in lines}
    assert len(rows) == len(lines) == 8
    for split in ("test", "held_out"):
        real, right, shuffled = (rows[split, name] for name in ("real", "guidance 1", "guidance 0"))
        assert real["colour"] == real["ground"] == right["colour"] == right["ground"] == 1.0
        assert real["label"] == real["exact"] > 0.8
        # Another image of the same caption may stand for one that the classifier takes wrongly.
        assert abs(right["exact"] - real["exact"]) < 0.08
        assert real["num_samples"] == 150 and real["num_others"] == 210
        # One in 10 x 6 x 7, and a few more by chance.
        assert shuffled["exact"] < 0.04 and 0.02 < shuffled["label"] < 0.25
        assert 0.05 < shuffled["colour"] < 0.35 and shuffled["colour_stderr"] > 0.01
        # Of three channels, and of digits without colours, which are the same in all.
        for name in ("fd", "fd_digits"):
            assert right[name] > 0 and real[name] > 0
        # What comes back is the image, mirrored: another digit in the same colours.
        mirrored = rows[split, "reconstructed"]
        assert mirrored["colour"] == 1.0 and mirrored["label"] < real["label"] - 0.1
        assert mirrored["fd"] > real["fd"] and mirrored["num_others"] == 210
        # Of the same caption, and not the image that was made small.
        psnr = [row["consistency_psnr"] for row in (real, right, shuffled)]
        assert psnr[0] > psnr[1] + 0.5 and psnr[1] > psnr[2] + 10
        assert right["seconds"] > 0 and "seconds" not in real
        assert right["protocol"] == "by heart in 7 steps, guidance 1"
    assert "| test | real | " in done.stdout and "| held_out | guidance 0 | " in done.stdout
    assert "drawn by by heart in 7 steps, guidance 0" in done.stdout
    assert (runs / "figure.png").stat().st_size > 10_000


@pytest.mark.slow
def test_runs_that_draw_no_captions_and_other_classifiers_are_refused(runs):
    done = command(runs, f"--workdir={runs / 'judge'}")
    assert done.returncode and "expected a run on captioned_digits of a family" in done.stderr
    done = command(runs, f"--workdir={runs / 'model'}", f"--classifier={runs / 'none'}")
    assert done.returncode and "train one of experiments/classifier" in done.stderr
