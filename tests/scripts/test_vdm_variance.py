import re
import subprocess
import sys

import pytest

import genjax


@pytest.mark.slow
def test_schedules_between_the_same_ends_have_one_bound_and_their_own_variances(tmp_path):
    config = "experiments/vdm/digits.py"
    run = genjax.Run(
        genjax.build(config, {"train.num_steps": 150, "train.eval_every": 0,
                              "train.sample_every": 0, "parallel.cpu_devices": 1,
                              "model.num_layers": 1, "model.channels": 16}),
        tmp_path / "run", quiet=True,
    )  # fmt: skip
    run.train()
    figure = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, "scripts/vdm_variance.py", f"--workdir={tmp_path / 'run'}",
         f"--figure={figure}", "--num_batches=200"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = {}
    for line in done.stdout.splitlines()[2:]:
        name, *numbers = line.strip("| ").split(" | ")
        rows[name] = [float(n) for part in numbers for n in re.split(" ± ", part)]
    means = [row[0] for row in rows.values()]
    errors = [row[1] for row in rows.values()]
    assert max(means) - min(means) < 5 * max(errors)
    assert rows["cosine"][2] > 1.1 * rows["linear"][2]
    for row in rows.values():
        assert row[3] < 0.8 * row[4]  # stratified against independent times
    assert figure.stat().st_size > 10_000
