"""Inversion: linear generators by least squares, and what runs and commands make of it."""

import json
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import families, nets
from genjax.evaluation import nearest_neighbour_accuracy
from genjax.training.inversion import Descent, Inverter

REPO = pathlib.Path(__file__).resolve().parents[2]


class Linear(nn.Module):
    """Rows of five entries that are affine in latents of three."""

    @nn.compact
    def __call__(self, latent, label=None, *, train=False):
        return nn.Dense(5)(latent)


@pytest.fixture(scope="module")
def linear():
    family = families.gan(
        generator=Linear(), critic=nets.MLPCritic(4, 1), event_shape=(5,), num_levels=None,
        generator_optimizer=optax.sgd(1.0), critic_optimizer=optax.sgd(1.0), batch_size=8,
        latents=families.Latent(latent_size=3),
    )  # fmt: skip
    state = family.init(jax.random.key(0), {"x": jnp.zeros((8, 5))})
    return family, state, Inverter(family, 4, lambda items, total, label: items)


def test_latents_of_a_linear_generator_are_those_of_least_squares(linear):
    family, state, inverter = linear
    dense = state.params["generator"]["Dense_0"]
    weights, bias = np.asarray(dense["kernel"]), np.asarray(dense["bias"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5)).astype(np.float32)  # two batches, the last one not full
    expected = np.linalg.lstsq(weights.T, (x - bias).T, rcond=None)[0].T
    errors = np.mean((expected @ weights + bias - x) ** 2, axis=1)
    for start in (None, jax.random.key(1), rng.normal(size=(6, 3)).astype(np.float32)):
        z, found = inverter.run(state, {"x": x}, [start], Descent(num_steps=300))
        np.testing.assert_allclose(z, expected, atol=2e-2)
        np.testing.assert_allclose(found, errors, rtol=1e-3, atol=1e-5)
    # Of rows that the generator made, the latents themselves.
    z = rng.normal(size=(6, 3)).astype(np.float32)
    made = np.asarray(family.decode(state, jnp.asarray(z), {"x": jnp.asarray(x)}))
    back, found = inverter.run(state, {"x": made}, [None], Descent(num_steps=300))
    np.testing.assert_allclose(back, z, atol=1e-2)
    assert found.max() < 1e-5


def test_the_best_of_several_starts_and_places_is_kept(linear):
    _, state, inverter = linear
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    starts = [jax.random.key(i) for i in range(3)]
    none = Descent(num_steps=0)
    alone = [inverter.run(state, {"x": x}, [start], none)[1] for start in starts]
    z, best = inverter.run(state, {"x": x}, starts, none)
    np.testing.assert_array_equal(best, np.min(alone, axis=0))
    # Steps that are far too long lead away; what was found before is not lost.
    _, kept = inverter.run(state, {"x": x}, [z], Descent(num_steps=5, learning_rate=1e3))
    assert (kept <= best).all()


def test_the_rate_rises_and_falls_and_latents_stay_where_the_prior_is():
    descent = Descent(num_steps=100, learning_rate=0.2)
    rates = np.array([descent.rate(i) for i in range(100)])
    np.testing.assert_allclose(rates[:5], [0.04, 0.08, 0.12, 0.16, 0.2])
    np.testing.assert_allclose(rates[5:75], 0.2)
    assert (np.diff(rates[75:]) < 0).all() and rates[-1] < 0.01
    uniform = families.Latent(latent_size=2, latent="uniform")
    np.testing.assert_array_equal(uniform.clip(jnp.array([[-3.0, 0.5]])), [[-1.0, 0.5]])
    for wrong in (dict(num_steps=-1), dict(learning_rate=0.0), dict(ramp_up=0.8, ramp_down=0.3)):
        with pytest.raises(ValueError):
            Descent(**wrong)


def test_nearest_neighbours_are_scikit_learns():
    rng = np.random.default_rng(0)
    centres = 4.0 * np.eye(3)
    labels = rng.integers(3, size=60)
    x = centres[labels] + 0.1 * rng.normal(size=(60, 3))
    assert nearest_neighbour_accuracy(x[:40], labels[:40], x[40:], labels[40:]) == 1.0
    other = (labels + 1) % 3
    assert nearest_neighbour_accuracy(x[:40], other[:40], x[40:], labels[40:], 3) == 0.0
    for change, message in [
        (dict(num_neighbours=41), "num_neighbours"),
        (dict(labels=labels[40:50]), "a label for each row"),
        (dict(features=np.full((20, 3), np.nan)), "finite"),
        (dict(features=np.zeros((20, 2))), "differ in length"),
    ]:
        given = dict(features=x[40:], labels=labels[40:], num_neighbours=1) | change
        with pytest.raises(ValueError, match=message):
            nearest_neighbour_accuracy(x[:40], labels[:40], **given)


# Runs.

_MLP = dict(name="mlp", hidden_size=16, num_layers=1)
_TRAIN = dict(num_steps=20, eval_every=20, sample_every=0, checkpoint_every=20, log_every=20)
DATA = dict(name="digits", batch_size=64)
_ADAM = dict(name="adam", learning_rate=1e-3)
_OPTIMIZERS = dict(generator=_ADAM, critic=_ADAM)
_GENERATOR = {**_MLP, "norm": "batch", "output": "tanh"}
BIGAN = dict(
    data=DATA, family=dict(name="bigan", latent_size=6), optimizer=_OPTIMIZERS,
    model=dict(encoder={**_MLP, "num_layers": 2}, generator=_GENERATOR, critic=_MLP),
    train={**_TRAIN, "best_metric": "eval/reconstruction_distance"}, eval=dict(batch_size=50),
)  # fmt: skip
GAN = BIGAN | dict(
    family=dict(name="gan", latent_size=6),
    model=dict(
        generator=_GENERATOR,
        critic=dict(name="dcgan", channels=8, min_channels=4, norm="none"),
    ),
    train={**_TRAIN, "eval_every": 0},
)


def trained(config, folder, changes=None):
    run = genjax.Run(genjax.build(config, changes or {}), folder, quiet=True)
    run.train()
    return run


@pytest.fixture(scope="module")
def bigan(tmp_path_factory):
    return trained(BIGAN, tmp_path_factory.mktemp("bigan"))


def rows_of(run, count):
    return run.experiment.test_data.source.rows(np.arange(count))["x"]


def test_a_run_encodes_decodes_and_inverts(bigan):
    x = rows_of(bigan, 10)
    z = bigan.encode(x)
    assert z.shape == (10, 6) and bigan.encoder_features(x).shape == (10, 16)
    assert bigan.decode(z).shape == x.shape and bigan.decode(z).dtype == np.uint8

    def error(latents):
        again = bigan.decode(latents).astype(float)
        return np.mean((x - again) ** 2, axis=(1, 2, 3))

    better = bigan.invert(x, start="encoder", descent=Descent(num_steps=60))
    assert error(better).mean() < 0.9 * error(z).mean()
    np.testing.assert_allclose(bigan.invert(x, start="encoder", descent=Descent(num_steps=0)), z)
    assert bigan.invert(x, start="mean", descent=Descent(num_steps=0)).any() == 0
    scores = bigan.scores(x)
    assert set(scores) >= {"anomaly", "reconstruction_distance", "random_distance"}
    assert all(values.shape == (10,) for values in scores.values())
    own = bigan.outlier_scores(x)
    assert set(own) == {"anomaly", "reconstruction_distance", "feature_distance"}
    for name, values in own.items():
        np.testing.assert_allclose(values, scores[name], rtol=1e-5)
    for call, message in [
        (lambda: bigan.invert(x, start="middle"), "start must be"),
        (lambda: bigan.invert(x, start=z[:3]), "expected latents"),
        (lambda: bigan.invert(x, num_starts=2), "num_starts is of random starts"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_latents_of_a_bigan_are_edited_as_those_of_any_model(bigan):
    from genjax.training.edits import Context
    from genjax.training.latent_edits import Attribute, LatentMap

    context = Context(bigan.edit, bigan.experiment)
    edited = LatentMap(num_found=50, num_side=3).apply(context)
    assert edited.arrays["rows"].shape == (9, 8, 8, 1)
    edited = Attribute(attribute="thickness", strengths=(-1.0, 0.0, 1.0)).apply(context)
    assert np.isfinite(list(edited.numbers.values())).all()


@pytest.mark.slow
def test_a_latent_regressor_inverts_the_generator_of_another_run(bigan, tmp_path):
    gan = trained(GAN, tmp_path / "gan")
    config = dict(
        data=DATA, family=dict(name="latent_regression", latent_size=6), optimizer=_ADAM,
        model=dict(
            encoder={**_MLP, "hidden_size": 64, "num_layers": 2},
            generator=dict(frozen=dict(workdir=str(tmp_path / "gan"), network="generator")),
        ),
        train={**_TRAIN, "num_steps": 600, "eval_every": 600, "log_every": 200,
               "checkpoint_every": 600, "best_metric": "eval/reconstruction_mse"},
    )  # fmt: skip
    run = trained(config, tmp_path / "regression")
    z = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    made = gan.decode(z)
    np.testing.assert_array_equal(made, run.decode(z))  # the very same generator
    unexplained = np.sum((run.encode(made) - z) ** 2) / np.sum(z**2)
    assert unexplained < 0.6
    done = subprocess.run(
        [sys.executable, "scripts/invert.py", f"--workdir={tmp_path}/gan", "--num_rows=20",
         f"--encoder={tmp_path}/regression", "--num_steps=100", f"--json={tmp_path}/i.json",
         f"--figure={tmp_path}/i.png"],
        cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "i.json").read_text())["methods"]
    errors = {name: one["generated_mse"] for name, one in found.items()}
    assert errors["from the encoder"] < errors["encoder"]
    assert errors["from the encoder"] < 0.01
    assert f"{errors['encoder']:.3g}" in done.stdout and (tmp_path / "i.png").stat().st_size > 100
    done = subprocess.run(
        [sys.executable, "scripts/invert.py", f"--workdir={tmp_path}/gan", "--num_rows=20",
         f"--encoder={bigan.workdir}"],
        cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode and "inverts another generator" in done.stderr


@pytest.mark.slow
def test_the_commands_of_encoders_print_tables(bigan, tmp_path):
    for script, words in [
        ("neighbours", ["--num_train=300", "--num_test=50"]),
        ("outliers", ["--num_rows=30", "--against=noise,rotated"]),
    ]:
        done = subprocess.run(
            [sys.executable, f"scripts/{script}.py", f"--workdir={bigan.workdir}", *words,
             f"--json={tmp_path}/{script}.json"],
            cwd=REPO, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "neighbours.json").read_text())
    assert found["accuracy_entries"] > 0.8 and 0.0 < found["ratio"] < 2.0
    rows = json.loads((tmp_path / "outliers.json").read_text())["rows"]
    assert [row["outliers"] for row in rows] == ["noise", "rotated"]
    assert set(rows[0]["scores"]) >= {"anomaly", "reconstruction_distance"}
