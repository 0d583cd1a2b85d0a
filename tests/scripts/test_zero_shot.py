"""The command that finds classes and captions, on a small model of captioned digits."""

import json
import subprocess
import sys

import pytest

import genjax
from genjax import config as configs


@pytest.mark.slow
def test_classes_are_found_by_what_is_said_of_them_far_above_chance(tmp_path):
    config = configs.load_config("experiments/contrastive/digits.py")
    config.train.update(num_steps=200, eval_every=0)
    config.optimizer.learning_rate = 3e-3
    genjax.Run(genjax.build(config), tmp_path / "run", quiet=True).train()
    numbers = tmp_path / "numbers.json"
    done = subprocess.run(
        [sys.executable, "scripts/zero_shot.py", f"--workdir={tmp_path}/run", f"--json={numbers}",
         "--template=a photo of the digit {}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(numbers.read_text())
    label, caption = found["label of an image"], found["caption of an image"]
    assert label["share"] > 0.8 and label["chance"] == 0.1
    # Ten captions, one a class: the same question asked in two ways.
    assert caption["among"] == 10 and caption["share"] == label["share"]
    assert found["image of a caption"]["among"] == 360
    assert f"| label of an image | 10 | {label['share']:.4f} ±" in done.stdout
