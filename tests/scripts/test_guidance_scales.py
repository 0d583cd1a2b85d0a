import json
import subprocess
import sys

import pytest

import genjax

CONFIG = dict(
    data=dict(name="digits", batch_size=32),
    model=dict(name="score_resnet", channels=8, num_groups=4, num_layers=1, num_classes=10),
    family=dict(name="edm", label_dropout=0.2, likelihood="none", ema_decay=0.9),
    optimizer=dict(name="adam"),
    train=dict(num_steps=3, eval_every=0, sample_every=0),
    sample=dict(
        num_samples=20, num_steps=2, guidance=dict(name="classifier_free", scale=3.0, stop=0.5)
    ),
)


@pytest.mark.slow
def test_scales_are_drawn_from_one_noise_and_shown_side_by_side(tmp_path):
    run = genjax.Run(genjax.build(CONFIG), tmp_path / "run", quiet=True)
    run.train()
    words = [
        "scripts/guidance_scales.py", f"--workdir={tmp_path / 'run'}", "--num_samples=20",
        f"--results={tmp_path / 'rows.jsonl'}", f"--figure={tmp_path / 'figure.png'}",
        "--scales=1,3", "--shown=10",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    # The interval is the run's.
    assert [row["guidance"] for row in rows] == [
        "guidance 1 from time 1 to 0.5", "guidance 3 from time 1 to 0.5",
    ]  # fmt: skip
    from PIL import Image

    # Two rows of ten images of 8x8 pixels, four times as large, with lines between.
    assert Image.open(tmp_path / "figure.png").size == (10 * 33 + 1, 2 * 33 + 1)
    done = subprocess.run(
        [sys.executable, *words, "--between=1"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "--between must be given twice" in done.stderr
