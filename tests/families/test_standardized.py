"""Data in units of its own: what models see is standardised, what they say is not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import bijectors, data, families, nets
from genjax.diffusion import FixedLinearSchedule
from genjax.families.standardized import Standardization

MEAN = np.array([300.0, -2.0, 5e4], np.float32)
STD = np.array([101.0, 1.5, 1040.0], np.float32)
LOG_VOLUME = float(np.log(STD).sum())


def batch(count=64, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, 3)).astype(np.float32)
    return {"x": jnp.asarray(z * STD + MEAN), "index": jnp.arange(count)}


def standard(rows):
    return {**rows, "x": (rows["x"] - MEAN) / STD}


def flow():
    return families.flow(
        model=bijectors.coupling_flow(event_shape=(3,), num_layers=2, hidden_size=8),
        optimizer=optax.adam(1e-3), event_shape=(3,), num_levels=None,
    )  # fmt: skip


def vdm():
    return families.vdm(
        score_net=nets.ScoreMLP(hidden_size=8, num_layers=1), schedule=FixedLinearSchedule(),
        optimizer=optax.adam(1e-3), event_shape=(3,), num_levels=None,
        sampling=families.Sampling(num_steps=4),
    )  # fmt: skip


def matched():
    return families.flow_matching(
        velocity_net=nets.ScoreMLP(hidden_size=8, num_layers=1, gamma_min=0.0, gamma_max=1.0),
        optimizer=optax.adam(1e-3), event_shape=(3,), num_levels=None, method="euler",
        sampling=families.Sampling(num_steps=4),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("make", [flow, vdm, matched])
def test_scores_are_those_of_the_data_by_the_change_of_variables(make):
    plain = make()
    family = families.standardized(plain, MEAN, STD)
    rows, key = batch(), jax.random.key(0)
    state = jax.jit(family.init)(key, rows)
    inner = jax.jit(plain.init)(key, standard(rows))
    kept = state.model_state["standardization"]
    np.testing.assert_array_equal(kept["mean"], MEAN)
    np.testing.assert_array_equal(kept["std"], STD)
    for ours, theirs in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(inner.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    few = {name: value[:8] for name, value in rows.items()}
    log_prob = jax.jit(family.log_prob)(state, few, key)
    expected = jax.jit(plain.log_prob)(inner, standard(few), key) - LOG_VOLUME
    np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-3)
    metrics = jax.jit(family.eval_step)(state, few, key)
    np.testing.assert_allclose(
        metrics["bits_per_dim"], -log_prob / (3 * np.log(2)), rtol=1e-4, atol=1e-3
    )
    new, found = jax.jit(family.train_step)(state, rows, key)
    _, standard_found = jax.jit(plain.train_step)(inner, standard(rows), key)
    offset = LOG_VOLUME / (3 * np.log(2)) if "bits_per_dim" in found else 0.0
    assert float(found["loss"]) == pytest.approx(
        float(standard_found["loss"]) + offset, rel=1e-3, abs=1e-3
    )
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_samples_are_in_the_units_of_the_data():
    family, plain = families.standardized(vdm(), MEAN, STD), vdm()
    key, rows = jax.random.key(1), batch(512)
    state = jax.jit(family.init)(key, rows)
    drawn = jax.jit(family.sample)(state, key, rows)
    expected = jax.jit(plain.sample)(jax.jit(plain.init)(key, standard(rows)), key, rows)
    np.testing.assert_allclose(drawn.rows, expected.rows * STD + MEAN, rtol=1e-3)
    np.testing.assert_allclose(drawn.trajectory, expected.trajectory * STD + MEAN, rtol=1e-3)


def test_a_density_of_the_plane_integrates_to_one():
    mean, std = np.array([30.0, -7.0]), np.array([20.0, 0.1])
    family = families.standardized(
        families.flow(
            model=bijectors.coupling_flow(event_shape=(2,), num_layers=2, hidden_size=8),
            optimizer=optax.adam(1e-3), event_shape=(2,), num_levels=None,
        ), mean, std,
    )  # fmt: skip
    rows = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(2000, 2)) * std + mean)}
    state = jax.jit(family.init)(jax.random.key(0), rows)
    density = jax.jit(family.sample)(state, jax.random.key(1), rows).density
    left, right, low, high = np.asarray(density.extent)
    cell = (right - left) * (high - low) / 99**2
    assert float(density.values.sum()) * cell == pytest.approx(1.0, abs=0.03)
    assert left < 30 - 40 and right > 30 + 40 and low < -7.2 and high > -6.8


def test_moments_do_not_lose_digits_far_from_zero_and_leave_constants():
    rng = np.random.default_rng(0)
    x = np.stack([1e6 + rng.normal(size=9000), np.full(9000, 1e6), np.zeros(9000)], 1)
    dataset = data.from_arrays("set", x=x.astype(np.float32))
    found = data.moments(dataset)
    exact = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(found.std, [exact[:, 0].std(), 1.0, 1.0], rtol=1e-5)
    np.testing.assert_array_equal(found.far_from_standard(), [0, 1])
    images = data.from_arrays("set", x=np.stack([x[:4500], x[4500:]], 1).reshape(100, 9, 10, 3))
    of_channels = data.moments(images)
    assert of_channels.mean.shape == (1, 1, 3)
    streamed = data.DataSet("set", data.splits.SlicedSource(dataset.source, 0, 9000), dataset.spec)
    np.testing.assert_allclose(data.moments(streamed, chunk=1000).std, found.std, rtol=1e-5)


def test_moments_that_broadcast_are_of_every_entry():
    batch = {"x": jnp.zeros((3, 4, 4, 2))}
    for shape in ((), (2,), (1, 1, 2), (4, 4, 2)):
        view = Standardization(mean=np.zeros(shape), std=np.full(shape, 10.0))
        volume = view.log_volume(view.kept(), batch, batch)
        np.testing.assert_allclose(volume, 32 * np.log(10.0), rtol=1e-6)
