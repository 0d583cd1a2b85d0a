"""What a run's density is used for: classes, missing entries, and the commands that measure it."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import logsumexp

import genjax
from genjax import evaluation

REPO = pathlib.Path(__file__).resolve().parents[2]
DIGITS = dict(
    data=dict(name="digits", batch_size=16, classes=(0, 1, 2)),
    model=dict(
        name="coupling_flow", elementwise="affine", hidden_size=8, num_layers=1, num_blocks=1,
        context_size=10,
    ),
    family=dict(name="flow"),
    optimizer=dict(name="adamw", learning_rate=1e-12),
    train=dict(num_steps=1, eval_every=0, sample_every=0),
    eval=dict(batch_size=16),
)  # fmt: skip
MOONS = DIGITS | dict(
    data=dict(name="two_moons", batch_size=16),
    model=dict(name="coupling_flow", elementwise="affine", hidden_size=8, num_layers=1),
)


def trained(config, workdir):
    run = genjax.Run(genjax.build(config), workdir, quiet=True)
    run.train()
    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained(DIGITS, tmp_path_factory.mktemp("digits"))


def test_classes_are_asked_under_the_same_noise_and_weighed_by_their_shares(digits):
    rows = digits.experiment.test_data.source.rows(np.arange(40))
    x = rows["x"]
    # A flow begins without knowing labels: all that differs is the share of the class.
    found = digits.class_log_probs(x)
    labels = digits.experiment.train_data.source.arrays["label"]
    shares = np.bincount(labels, minlength=10) / len(labels)
    assert (found[:, 3:] == -np.inf).all()
    np.testing.assert_allclose(
        evaluation.class_probabilities(found)[:, :3], np.tile(shares[:3], (40, 1)), atol=1e-4
    )
    # Noise of another place in the data is other noise.
    assert np.abs(digits.log_prob(x[::-1], label=0)[::-1] - digits.log_prob(x, label=0)).max() > 0.1
    uniform = digits.class_log_probs(x, prior="uniform")
    np.testing.assert_allclose(logsumexp(uniform, axis=1), digits.log_prob(x, label=0), rtol=1e-5)
    certain = np.eye(10)[2]
    assert (digits.classify(x, prior=certain) == 2).all()
    for prior, message in [
        ("test", "prior must be train, uniform or numbers"),
        (np.ones(10), "expected 10 probabilities that sum to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            digits.classify(x, prior=prior)


def test_a_run_of_some_classes_is_not_shown_the_others(digits):
    for split, count in [(digits.experiment.train_data, None), (digits.experiment.test_data, None)]:
        assert set(split.source.arrays["label"]) == {0, 1, 2} and count is None
    assert digits.experiment.spec["label"].num_classes == 10
    for classes in [(), (11,), (0.5,)]:
        with pytest.raises(ValueError, match="data.classes"):
            genjax.build(DIGITS, {"data.classes": classes})
    with pytest.raises(ValueError, match=r"data\.classes: two_moons has no labels"):
        genjax.build(MOONS, {"data.classes": (1,)})


def test_missing_entries_are_drawn_and_known_ones_stay(tmp_path):
    run = trained(MOONS, tmp_path)
    x = run.experiment.test_data.source.rows(np.arange(20))["x"]
    holes = x.copy()
    holes[:10, 0] = holes[10:, 1] = np.nan
    known = ~np.isnan(holes)
    drawn = run.impute(holes, num_draws=3, num_steps=4)
    assert drawn.shape == (3, 20, 2) and np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn[:, known], np.tile(x[known], (3, 1)))
    assert np.ptp(drawn[:, ~known], axis=0).min() > 0  # draws differ
    np.testing.assert_array_equal(drawn, run.impute(x, known, num_draws=3, num_steps=4))
    assert (drawn != run.impute(x, known, num_draws=3, num_steps=4, seed=1))[:, ~known].any()
    # What is not known is not read.
    wrong = np.where(known, x, 1e6)
    np.testing.assert_array_equal(drawn, run.impute(wrong, known, num_draws=3, num_steps=4))
    for call, message in [
        (lambda: run.impute(x, np.ones(3, bool)), "mask: expected the shape of the rows"),
        (lambda: run.impute(x[:0]), "expected rows, got none"),
        (lambda: run.impute(x, num_draws=0), "num_draws must be at least 1"),
        (lambda: run.classify(x), "this model has no likelihood of rows given their label"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_levels_need_a_mask(digits):
    x = digits.experiment.test_data.source.rows(np.arange(2))["x"]
    with pytest.raises(ValueError, match="grey levels are never NaN"):
        digits.impute(x, label=0)
    with pytest.raises(ValueError, match="this model is conditional: give label"):
        digits.impute(x, np.ones((8, 8), bool))


@pytest.mark.slow
def test_what_denoises_fills_in_by_inpainting(tmp_path):
    config = MOONS | dict(
        model=dict(name="score_mlp", hidden_size=8, num_layers=1),
        family=dict(name="edm"),
        sample=dict(num_steps=20),
    )
    run = trained(config, tmp_path)
    x = run.experiment.test_data.source.rows(np.arange(4))["x"]
    known = np.array([True, False])
    drawn = run.impute(x, known, num_draws=2)
    assert drawn.shape == (2, 4, 2) and (drawn[..., 0] == x[:, 0]).all()
    doubled = np.concatenate([x, x])
    np.testing.assert_array_equal(drawn.reshape(8, 2), run.edit.inpaint(doubled, known))


@pytest.mark.slow
def test_the_commands_print_tables_and_write_what_they_found(digits, tmp_path):
    def told(script, *words):
        done = subprocess.run(
            [sys.executable, f"scripts/{script}.py", f"--workdir={digits.workdir}", *words],
            cwd=REPO, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    where = {
        n: f"{tmp_path}/{n}" for n in ("o.json", "o.png", "c.json", "c.png", "i.json", "i.png")
    }
    np.save(tmp_path / "other.npy", np.full((5, 8, 8, 1), 16, np.uint8))
    code, out, error = told(
        "outliers", "--num_rows=30", f"--background={digits.workdir}", f"--json={where['o.json']}",
        f"--figure={where['o.png']}", f"--against=held_out,noise,{tmp_path}/other.npy",
    )  # fmt: skip
    assert code == 0, error
    rows = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert [row["num_rows"] for row in rows] == [30, 30, 5]
    assert rows[0]["outliers"] == "held_out" and f"| {rows[1]['bits_per_dim']:.3f} |" in out
    for row in rows:  # the background is the model itself
        assert row["scores"]["ratio"] == dict(
            auroc=0.5, auprc_outliers=row["num_rows"] / (30 + row["num_rows"]),
            auprc_inliers=30 / (30 + row["num_rows"]),
        )  # fmt: skip
    code, out, error = told(
        "classify", "--num_rows=50", "--baselines", f"--json={where['c.json']}",
        f"--figure={where['c.png']}",
    )  # fmt: skip
    assert code == 0, error
    scores = json.loads((tmp_path / "c.json").read_text())["scores"]
    assert scores["logistic regression"]["accuracy"] > 0.9 > scores["this model"]["accuracy"]
    code, out, error = told(
        "impute", "--num_rows=20", "--num_steps=4", "--mechanism=mar", f"--json={where['i.json']}",
        f"--figure={where['i.png']}",
    )  # fmt: skip
    assert code == 0, error
    methods = json.loads((tmp_path / "i.json").read_text())["methods"]
    assert set(methods) == {"this model", *evaluation.BASELINES}
    assert methods["mean"]["relative_rmse"] == 1.0 and methods["knn"]["relative_rmse"] < 1.0
    assert methods["this model"]["num_draws"] == 19 and "coverage" in methods["gaussian"]
    assert all(pathlib.Path(path).stat().st_size > 100 for path in where.values())
    code, _, error = told("outliers", "--scores=mars")
    assert code and "--scores: unknown 'mars'; this family has" in error
    code, _, error = told("outliers", "--against=mars")
    assert code != 0 and "unknown outliers 'mars'" in error
