import json
import subprocess
import sys

import pytest

import genjax

CONFIG = dict(
    data=dict(name="two_moons", batch_size=64),
    model=dict(name="score_mlp", hidden_size=16, num_layers=1),
    family=dict(name="edm", ema_decay=0.9),
    optimizer=dict(name="adam"),
    train=dict(num_steps=20, eval_every=0, sample_every=0),
    eval=dict(metrics=("sliced_w2",), num_samples=64, num_reference=64),
    sample=dict(num_samples=64, num_steps=4),
)


@pytest.mark.slow
def test_samplers_are_measured_by_network_calls_and_not_twice(tmp_path):
    genjax.Run(genjax.build(CONFIG), tmp_path / "run", quiet=True).train()
    words = [
        "scripts/sampler_quality.py", f"--workdir={tmp_path / 'run'}", "--num_samples=64",
        f"--results={tmp_path / 'rows.jsonl'}", f"--figure={tmp_path / 'figure.png'}",
    ]  # fmt: skip

    def measured(*more):
        done = subprocess.run(
            [sys.executable, *words, *more], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / "rows.jsonl").read_text().splitlines()
        return done.stdout, [json.loads(line) for line in lines]

    _, rows = measured("--calls=1,4", "--samplers=DDIM,Heun,predictor-corrector")
    # Two calls a step but for Heun's last; one call is no step with a correction.
    assert [(row["sampler"], row["calls"], row["steps"]) for row in rows] == [
        ("DDIM", 1, 1), ("Heun", 1, 1), ("DDIM", 4, 4), ("Heun", 3, 2),
        ("predictor-corrector", 4, 2),
    ]  # fmt: skip
    assert all(row["sliced_w2"] > 0 and row["num_samples"] == 64 for row in rows)
    out, again = measured("--calls=1,4,6", "--samplers=DDIM")
    assert again[:-1] == rows and again[-1]["calls"] == 6
    assert "| DDIM | " in out and "| sampler | 1 | 4 | 6 |" in out
    assert (tmp_path / "figure.png").stat().st_size > 10_000
