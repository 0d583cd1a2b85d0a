"""The scripts that show why GANs fail, against closed forms."""

import importlib.util
import math
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import evaluation, losses

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "why_gans_fail"


def script(name):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"why_gans_fail_{name}", FOLDER / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shift, noise", [(0.5, 0.0), (4.0, 0.0), (8.0, 2.0)])
def test_slopes_at_the_best_critic_are_those_of_the_divergences(shift, noise):
    found = script("vanishing_gradients").slopes(shift, noise)
    assert found.minimax == pytest.approx(found.twice_jsd, rel=1e-6)
    assert found.nonsaturating == pytest.approx(found.kl_less_twice_jsd, rel=1e-6)


def test_the_minimax_slope_vanishes_with_the_distance_and_noise_brings_it_back():
    slopes = script("vanishing_gradients").slopes
    assert slopes(16.0).minimax < 1e-12 and slopes(16.0).nonsaturating == pytest.approx(16.0)
    assert slopes(16.0, 8.0).minimax > 0.05


@pytest.mark.parametrize("name", ["simultaneous", "alternating", "alternating, 5 steps unrolled"])
def test_the_family_plays_the_bilinear_game_of_the_closed_form(name):
    game = script("bilinear_game")
    play, rate = game.PLAYS[name], 0.1
    points = game.played(play, rate, 60, half_life=20.0)
    exact = game.exactly(play, rate, 60)
    np.testing.assert_allclose(points[:, 0], exact, atol=2e-6)
    matrix = play.matrix(rate)
    assert np.abs(np.linalg.eigvals(matrix)) == pytest.approx(play.growth(rate))
    np.testing.assert_allclose(game.mean_of(play, rate, 60), exact[:60].mean(0), atol=1e-12)
    average, decay = exact[0], 0.5 ** (1 / 20)
    for point in exact[1:]:
        average = decay * average + (1 - decay) * point
    np.testing.assert_allclose(points[-1, 1], average, atol=2e-6)


def test_facts_of_the_bilinear_game():
    plays = script("bilinear_game").PLAYS
    assert plays["simultaneous"].growth(0.1) == pytest.approx(math.sqrt(1.01))
    assert plays["alternating"].growth(0.1) == 1.0
    assert plays["simultaneous, 1 step unrolled"].growth(0.1) == pytest.approx(math.sqrt(0.99))
    assert plays["alternating, 5 steps unrolled"].growth(0.1) == pytest.approx(math.sqrt(0.9))


def test_divergences_of_parallel_lines():
    lines = script("parallel_lines")
    x, y = (jnp.asarray(rows) for rows in lines.lines(1.0, 3000))
    kernel = lambda a, b: losses.rbf_kernel(a, b, bandwidths=[lines.BANDWIDTH])  # noqa: E731
    assert lines.exact_mmd(1.0) == pytest.approx(
        float(losses.mmd_squared(x, y, kernel=kernel)), rel=0.02
    )
    assert lines.exact(-0.3)["w1"] == 0.3 and lines.exact(0.0) == dict.fromkeys(lines.exact(0.0), 0)
    assert lines.exact(0.3)["jsd"] == math.log(2.0) and lines.exact(0.3)["kl"] == math.inf
    near = np.asarray(y[:200])
    far = near + [1.0, 0.0]
    assert evaluation.wasserstein_distance(near, far) == pytest.approx(1.0)


def test_the_best_gaussian_by_kl_matches_moments_and_by_reverse_kl_takes_a_mode():
    fits = script("gaussian_fits")
    mean = fits.WEIGHTS @ fits.CENTRES
    spread = fits.WEIGHTS @ ((fits.CENTRES - mean) ** 2).sum(1) / 2 + fits.STD**2
    found = fits.best("kl")
    np.testing.assert_allclose(found, [*mean, 0.5 * math.log(spread)], atol=1e-4)
    found = fits.best("reverse_kl")
    np.testing.assert_allclose(found[:2], fits.CENTRES[0], atol=0.1)
    assert np.exp(found[2]) == pytest.approx(fits.STD, rel=0.1)


def test_the_discrepancy_of_the_mixture_is_that_of_many_samples():
    fits = script("gaussian_fits")
    rng = np.random.default_rng(0)
    modes = (rng.uniform(size=3000) < fits.WEIGHTS[1]).astype(int)
    x = fits.CENTRES[modes] + fits.STD * rng.normal(size=(3000, 2))
    mean, std = np.array([0.5, -0.5]), 0.8
    y = mean + std * rng.normal(size=(3000, 2))
    sampled = float(losses.mmd_squared(jnp.asarray(x), jnp.asarray(y), kernel=fits.kernel))
    assert float(fits.exact_mmd(jnp.asarray(mean), std)) == pytest.approx(sampled, rel=0.05)


def test_plans_stay_below_their_bound_and_are_drawn(tmp_path):
    plans = script("transport_plans")
    x, y = plans.points(12)
    found = plans.plans(x, y)
    for made in found[1:]:
        above = made.cost - found[0].cost
        assert 0.0 < above <= made.regularization * math.log(12)
        assert made.divergence < made.cost
    plans.draw(x, y, found, str(tmp_path / "plans.png"))
    assert (tmp_path / "plans.png").stat().st_size > 10_000


@pytest.mark.slow
def test_critics_learn_rows_by_heart():
    few, many = script("loss_curves").by_heart(200, (20, 600))
    assert many[1] < few[1] < 2 * math.log(2) + 0.05  # the loss falls
    assert many[2] > 0.3 and many[3] < 0.0  # and claims what is not there


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, args",
    [
        ("vanishing_gradients", ["--num_steps=50", "--trained=0,25"]),
        ("parallel_lines", ["--num_rows=400", "--critic_steps=20,40", "--num_steps=400"]),
        ("gaussian_fits", ["--num_steps=60"]),
        ("transport_plans", ["--num_points=12"]),
        ("bilinear_game", ["--num_steps=50"]),
        ("loss_curves", ["--num_steps=40", "--num_rows=100"]),
    ],
)
def test_every_script_prints_a_table_and_draws(tmp_path, name, args):
    figure = tmp_path / "figure.png"
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), f"--figure={figure}", *args],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("| ") and "nan" not in done.stdout
    assert figure.stat().st_size > 10_000


def test_all_scripts_are_named_in_the_documentation():
    page = (FOLDER.parents[1] / "docs" / "why_gans_fail.md").read_text()
    for path in FOLDER.glob("*.py"):
        assert f"scripts/why_gans_fail/{path.name}" in page
    assert jax.config.jax_enable_x64 is False  # what scripts turn on they turn off
