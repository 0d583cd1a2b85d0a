"""Divergences between samples against those of Gaussians, and plans against assignments."""

import dataclasses
import json
import math
import subprocess
import sys

import flax.linen as nn
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from genjax import evaluation
from genjax.losses import F_DIVERGENCES

SMALL = evaluation.CriticFit(hidden_size=32, num_steps=400, batch_size=128)


def gaussians(shift=1.0, n=4000, m=4000, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) + np.array([shift, 0.0])


def truth(divergence, shift=1.0):
    """Of normal densities that lie so far apart, by a sum over a fine grid."""
    x = np.linspace(-15, 15 + shift, 100_001)
    p, q = (np.exp(-0.5 * (x - c) ** 2) / math.sqrt(2 * math.pi) for c in (0.0, shift))
    log_ratio = 0.5 * shift**2 - shift * x
    terms = {
        "kl": p * log_ratio,
        "jsd": 0.5 * p * np.log(2 * p / (p + q)) + 0.5 * q * np.log(2 * q / (p + q)),
        "squared_hellinger": (np.sqrt(p) - np.sqrt(q)) ** 2,
        "total_variation": 0.5 * np.abs(p - q),
    }
    return float(terms[divergence].sum() * (x[1] - x[0]))


@pytest.mark.parametrize("name", ["jsd", "total_variation"])
def test_critics_of_two_gaussians_come_close_to_their_divergence(name):
    x, y = gaussians()
    found = evaluation.divergence_between(x, y, name, fit=SMALL)
    assert abs(found["value"] - truth(name)) < 4 * found["stderr"] + 0.02 * truth(name)
    assert 0 < found["stderr"] < 0.2 * truth(name) and found["num_held_out"] == 4000


def test_the_exact_ratio_gives_the_divergence_and_any_other_less(x64):
    rng = np.random.default_rng(1)
    p, q = 0.5 - rng.normal(size=100_000), 0.5 - (1.0 + rng.normal(size=100_000))
    for name in ("kl", "squared_hellinger", "total_variation"):
        exact, shrunk, biased = (
            evaluation.f_divergence_of_ratios(f(p), f(q), divergence=name)
            for f in (lambda v: v, lambda v: 0.5 * v, lambda v: v + 0.7)
        )
        assert abs(exact["value"] - truth(name)) < 4 * exact["stderr"]
        for other in (shrunk, biased):
            assert other["value"] <= exact["value"] + 1e-3
    assert evaluation.f_divergence_of_ratios(p, q, divergence="jensen_shannon")["value"] == (
        pytest.approx(2 * truth("jsd"), abs=0.01)
    )


def test_held_out_rows_show_what_a_critic_has_learned_by_heart():
    x, y = np.random.default_rng(0).normal(size=(2, 100, 20))
    by_heart = evaluation.CriticFit(hidden_size=32, num_steps=400, check_every=400, batch_size=128)
    found = evaluation.divergence_between(x, y, "jsd", fit=by_heart)
    # On its own rows it claims a divergence of distributions that are the same.
    assert found["train_value"] > 0.3 and found["value"] < 0.0


def test_the_distance_of_shifted_gaussians_is_the_shift_in_any_units():
    x, y = gaussians(shift=2.0)
    fit = dataclasses.replace(SMALL, num_steps=1000)
    found = evaluation.divergence_between(x, y, "w1", fit=fit)
    assert 1.5 < found["value"] < 2.0 + 4 * found["stderr"]
    assert found["largest_slope"] >= found["mean_slope"] > 0.5
    thousand = evaluation.divergence_between(1e3 * x + 1e5, 1e3 * y + 1e5, "w1", fit=fit)
    assert thousand["value"] == pytest.approx(1e3 * found["value"], rel=0.02)


def test_the_discrepancy_of_gaussians_is_that_of_the_closed_form():
    x, y = gaussians(m=4400)
    found = evaluation.mmd_estimate(x, y, bandwidth=1.0)
    # E k under normal differences of variance 2 and mean d: (1/3) exp(-d^2 / 6) in the plane.
    exact = (2.0 / 3.0) * (1.0 - math.exp(-1.0 / 6.0))
    assert abs(found["value"] - exact) < 4 * found["stderr"] < 0.1
    own = evaluation.divergence_between(x, y, "mmd")
    assert own["bandwidth"] == pytest.approx(np.median(cdist(x, y)), rel=0.1)
    same = evaluation.mmd_estimate(x, gaussians(shift=0.0, seed=7)[0])
    assert abs(same["value"]) < 4 * same["stderr"]


def test_a_calibrated_ratio_has_mean_1_and_unequal_numbers_do_not_move_it():
    x, y = gaussians(m=8000)
    found = evaluation.density_ratio_estimate(x, y, fit=SMALL)
    assert found["value"] == pytest.approx(0.5, abs=0.1)
    for name in ("mean_ratio", "mean_inverse"):
        assert abs(found[name] - 1.0) < 4 * found[f"{name}_stderr"] + 0.05
    assert found["calibration_error"] < 0.05 and found["kl_bound"] <= found["value"] + 0.1
    log_ratio = evaluation.fit_log_ratio(x, y, fit=SMALL)
    at = np.array([[-1.0, 0.0], [0.5, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(log_ratio(at), [1.5, 0.0, -1.5], atol=0.3)


def test_scores_of_the_true_ratio_and_of_one_that_is_twice_as_sure():
    rng = np.random.default_rng(0)
    p, q = 0.5 - rng.normal(size=50_000), 0.5 - (1.0 + rng.normal(size=50_000))
    true, sure = (evaluation.density_ratio_scores(c * p, c * q) for c in (1.0, 2.0))
    assert abs(true["mean_ratio"] - 1.0) < 4 * true["mean_ratio_stderr"]
    assert abs(true["value"] - 0.5) < 4 * true["stderr"]
    assert abs(true["kl_bound"] - 0.5) < 4 * true["kl_bound_stderr"]
    # E_q r^2 = e for Gaussians one apart; the plug-in estimate is twice the truth, the bound below.
    assert sure["mean_ratio"] == pytest.approx(math.e, rel=0.1)
    assert sure["value"] > 0.9 and sure["kl_bound"] < 0.0
    assert sure["calibration_error"] > 4 * true["calibration_error"]


def test_critics_of_pictures_and_what_is_refused():
    class Sums(nn.Module):
        @nn.compact
        def __call__(self, x):
            assert x.shape[1:] == (2, 2, 1)
            return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (2, 200, 2, 2, 1)).astype(np.uint8)
    fit = evaluation.CriticFit(critic=Sums(), num_steps=20, check_every=10, batch_size=32)
    assert abs(evaluation.divergence_between(x, y, fit=fit)["value"]) < 0.2
    stateful = evaluation.CriticFit(
        critic=nn.Sequential([nn.BatchNorm(use_running_average=True)]), num_steps=1
    )
    for args, kwargs, message in [
        ((x, y, "js"), {}, "estimate must be one of jsd, "),
        ((x, y[:, :1]), {}, "rows of one shape"),
        ((x[:19], y), {}, "at least 20 rows"),
        ((x[:39], y, "mmd"), {}, "at least 40 rows"),
        ((x[:, 0, 0, 0], y[:, 0, 0, 0]), {}, "rows of one shape"),
        ((x * math.nan, y), {}, "not finite"),
        ((0 * x, 0 * y, "mmd"), {}, "all the same"),
        ((x, y), dict(fit=stateful), "without state, got one with batch_stats"),
    ]:
        with pytest.raises(ValueError, match=message):
            evaluation.divergence_between(*args, **kwargs)
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        evaluation.CriticFit(num_steps=0)
    assert {*F_DIVERGENCES, "jsd", "w1"} < set(evaluation.ESTIMATES)


def test_plans_are_the_assignment_and_come_to_it_with_less_entropy():
    x, y = gaussians(n=30, m=30)
    cost = cdist(x, y, "sqeuclidean")
    rows, columns = linear_sum_assignment(cost)
    plan, exact = evaluation.transport_plan(x, y)
    np.testing.assert_allclose(30 * plan[rows, columns], 1.0, atol=1e-12)
    assert exact == pytest.approx(cost[rows, columns].mean(), rel=1e-12)
    above, divergences = [], []
    for share in (1.0, 0.2, 0.05):
        eps = share * cost.mean()
        plan, found = evaluation.transport_plan(x, y, regularization=eps)
        np.testing.assert_allclose([plan.sum(0), plan.sum(1)], 1 / 30, rtol=1e-4)
        above.append(found - exact)
        assert 0.0 < above[-1] <= eps * math.log(30)
        divergences.append(evaluation.sinkhorn_divergence(x, y, regularization=eps))
    assert above == sorted(above, reverse=True)
    assert abs(divergences[-1] - exact) < abs(divergences[0] - exact)
    assert evaluation.sinkhorn_divergence(x, x, regularization=1.0) == pytest.approx(0, abs=1e-9)


def test_wrong_transport_is_refused(monkeypatch):
    x, y = gaussians(n=30, m=30)
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        evaluation.transport_plan(x, y, p=3)
    monkeypatch.setattr("genjax.evaluation.transport.MOST_ROUNDS", 20)
    with pytest.raises(ValueError, match="has not converged: 0.02 is too small beside"):
        evaluation.transport_plan(x, y, regularization=0.02)
    with pytest.raises(ValueError, match="must not be negative"):
        evaluation.transport_plan(x, y, regularization=-1.0)
    with pytest.raises(ValueError, match="regularization must be positive"):
        evaluation.sinkhorn_divergence(x, y, regularization=0.0)


@pytest.mark.slow
def test_the_command_prints_a_row_an_estimate(tmp_path):
    for name, rows in zip("ab", gaussians(n=500, m=600), strict=True):
        np.save(tmp_path / f"{name}.npy", rows)
    command = [sys.executable, "scripts/divergence.py", str(tmp_path / "a.npy"),
               str(tmp_path / "b.npy"), "--num_steps=200"]  # fmt: skip
    done = subprocess.run(
        [*command, "--estimate=jsd,mmd", f"--json={tmp_path / 'out.json'}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["jsd", "mmd"]
    kept = json.loads((tmp_path / "out.json").read_text())["estimates"]
    assert float(rows[0][1]) == pytest.approx(kept["jsd"]["value"], abs=1e-4)
    wrong = subprocess.run([*command, "--estimate=js"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "unknown estimate 'js'; valid: jsd, " in wrong.stderr
    missing = subprocess.run([*command[:3], "/nowhere.npy"], capture_output=True, text=True)
    assert missing.returncode == 1 and missing.stderr.startswith("divergence.py: ")
