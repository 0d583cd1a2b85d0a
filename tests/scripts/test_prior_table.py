"""The command that measures priors, on small models of captioned digits."""

import json
import subprocess
import sys

import pytest

import genjax

DATA = dict(name="captioned_digits", batch_size=32, options=dict(images="digits", scene="plain"))
TEXT = dict(hidden_size=8, num_blocks=1, num_heads=2)
REST = dict(
    optimizer=dict(name="adam", learning_rate=3e-3),
    eval=dict(batch_size=512),
    sample=dict(num_steps=2),
)


@pytest.mark.slow
def test_the_table_has_the_prior_beside_baselines_that_are_what_they_say(tmp_path):
    towers, prior = tmp_path / "towers", tmp_path / "prior"
    train = dict(log_every=10, eval_every=0, sample_every=0)
    config = dict(
        data=DATA,
        model=dict(
            image=dict(name="image_tower", embedding_size=8, channels=8, num_features=16),
            text=dict(name="text_tower", embedding_size=8, **TEXT),
        ),
        family=dict(name="clip"),
        train=dict(num_steps=100, **train),
        **REST,
    )
    genjax.Run(genjax.build(config), towers, quiet=True).train()
    config = dict(
        data=dict(**DATA, embeddings=dict(workdir=str(towers), what="x")),
        model=dict(name="prior_transformer", **TEXT),
        family=dict(
            name="diffusion", process=dict(name="cosine"), prediction="data", weighting="data"
        ),
        train=dict(num_steps=1, **train),
        **REST,
    )
    genjax.Run(genjax.build(config), prior, quiet=True).train()
    numbers = tmp_path / "numbers.json"
    done = subprocess.run(
        [sys.executable, "scripts/prior_table.py", f"--workdir={prior}", f"--json={numbers}",
         "--num_rows=200"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(numbers.read_text())["scores"]
    assert set(found) == {
        "images", "prior", "text", "mean of training images", "a training image",
    }  # fmt: skip
    assert {row["rows"] for row in found.values()} == {200}
    images, mean, one = (
        found[name] for name in ("images", "mean of training images", "a training image")
    )
    assert images["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert abs(images["frechet_distance"]) < 1e-6
    # The mean is nearer to each, and farther as a set; one of them is neither.
    assert mean["cosine"] > one["cosine"]
    assert mean["frechet_distance"] > one["frechet_distance"]
    # The text is its own nearest text, but for other ways to say what texts of other digits say.
    assert found["text"]["retrieval_at_1"] > 0.3
    assert found["text"]["frechet_distance"] > one["frechet_distance"]
    assert f"| prior | 200 | {found['prior']['retrieval_at_1']:.4g} |" in done.stdout
