"""The comparison by number of labels, on two small numbers of them."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_generative_classifiers_need_fewer_labels_and_logistic_regression_ends_below(tmp_path):
    figure = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, "scripts/generative_vs_discriminative.py", "--num_seeds=2",
         "--sizes=20,1437", f"--figure={figure}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    assert rows[0][1:] == ["20", "1437"]
    errors = {name: [float(c.split()[0]) for c in cells] for name, *cells in rows[2:]}
    few, many = (
        {name: found[i] for name, found in errors.items()} for i in range(2)
    )  # of 20 labels, and of all
    assert many["logistic regression, C = 1"] < min(
        error for name, error in many.items() if name.startswith("naive")
    )
    assert all(few[name] > many[name] for name in errors)
    assert figure.stat().st_size > 10_000
