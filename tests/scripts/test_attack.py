"""The command that attacks a classifier, on a small one of the digits."""

import json
import subprocess
import sys

import pytest

import genjax


@pytest.mark.slow
def test_the_command_prints_accuracies_and_draws(tmp_path):
    config = dict(
        data=dict(name="digits", batch_size=64),
        model=dict(name="plain_conv", channels=(4,), kernel_size=3, hidden_sizes=()),
        family=dict(name="classifier"),
        optimizer=dict(name="adam", learning_rate=1e-2, b1=0.9),
        train=dict(num_steps=100, eval_every=0, sample_every=0),
    )
    genjax.Run(genjax.build(config), tmp_path / "run", quiet=True).train()
    numbers, figure = tmp_path / "numbers.json", tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, "scripts/attack.py", f"--workdir={tmp_path}/run", "--epsilon=0.2",
         "--steps=5", "--num_rows=100", f"--json={numbers}", f"--figure={figure}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(numbers.read_text())
    accuracies = [found[name]["accuracy"] for name in ("none", "FGSM", "PGD-5x1")]
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[0] > 0.6
    assert found["PGD-5x1"]["epsilon"] == 0.2 and figure.stat().st_size > 1000
    assert "| PGD-5x1 |" in done.stdout
