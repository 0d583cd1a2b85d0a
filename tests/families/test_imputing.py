"""Chains that fill in missing entries: against conditional distributions that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import families, nets
from genjax.bijectors import coupling_flow
from genjax.evaluation import gaussian_conditional
from genjax.families.imputing import likely_start
from genjax.families.langevin import langevin, langevin_within_bins

KEY = jax.random.key(0)
COVARIANCE = np.array([[1.0, 0.6, 0.3], [0.6, 2.0, -0.5], [0.3, -0.5, 0.7]])
MEAN = np.array([0.5, -1.0, 2.0])


def test_langevin_draws_the_conditional_normal_distribution():
    precision, mean = jnp.asarray(np.linalg.inv(COVARIANCE)), jnp.asarray(MEAN)
    known = np.array([False, True, False])
    row = np.array([0.0, 1.0, 0.0])

    def log_density(x):
        return -0.5 * jnp.einsum("bi,ij,bj->b", x - mean, precision, x - mean)

    start = jnp.asarray(np.broadcast_to(row, (4000, 3)), jnp.float32)
    free = jnp.broadcast_to(~known, start.shape)
    x, accepted = jax.jit(lambda k: langevin(log_density, start, free, k, num_steps=200))(KEY)
    assert (x[:, 1] == 1.0).all()
    centre, spread = gaussian_conditional(MEAN, COVARIANCE, row, known)
    drawn = np.asarray(x, np.float64)[:, ~known]
    np.testing.assert_allclose(drawn.mean(0), centre, atol=4 * np.sqrt(spread.max() / 4000))
    np.testing.assert_allclose(np.cov(drawn.T), spread, atol=0.05)
    assert 0.45 < accepted.mean() < 0.7


def test_levels_are_drawn_with_their_probabilities_and_known_ones_stay_in_their_bins():
    # A density of the square, 1 + c (2a - 1)(2b - 1): of two levels each, all is in closed form.
    strength, count = 0.8, 4000

    def log_density(y):
        return jnp.log1p(strength * (2 * y[:, 0] - 1) * (2 * y[:, 1] - 1))

    known = jnp.broadcast_to(jnp.array([True, False]), (count, 2))
    levels = jnp.ones((count, 2))
    y = jax.jit(
        lambda k: langevin_within_bins(
            log_density, levels, jnp.full((count, 2), 0.3), known, 2, k, num_steps=100
        )
    )(KEY)
    assert (y[:, 0] >= 0.5).all() and (y[:, 0] <= 1.0).all()
    # P(b = 1 | a = 1) = 1/2 + strength / 8, as the mean of 2a - 1 over its bin is 1/2.
    share = float((y[:, 1] >= 0.5).mean())
    assert abs(share - (0.5 + strength / 8)) < 4 * np.sqrt(0.24 / count)


def test_chains_begin_at_candidates_that_fit_what_is_known():
    # Of two modes at -3 and 3 with equal weights, the known entry is in one of them.
    def draw(key):
        side = jnp.where(jax.random.bernoulli(key, 0.5, (500,)), 3.0, -3.0)
        x = jnp.stack([jnp.full(500, 3.0), side], axis=1)
        at = lambda c: -0.5 * jnp.sum((x - c) ** 2, 1)  # noqa: E731
        return x, jnp.logaddexp(at(3.0), at(-3.0))

    rows = likely_start(draw, KEY, 20)
    assert (rows[:, 1] == 3.0).all()


def linear_vae():
    return families.vae(
        encoder=nets.MLPEncoder(hidden_size=8, num_layers=1),
        decoder=nets.MLPDecoder(num_layers=0),
        observation=families.Gaussian(variance="fixed", std=0.5),
        optimizer=optax.adam(1e-2), event_shape=(3,), num_levels=None, latent_size=1,
    )  # fmt: skip


def test_a_linear_vae_fills_in_as_its_normal_distribution_does_whatever_its_encoder():
    family, count = linear_vae(), 4000
    batch = {"x": jnp.zeros((count, 3)), "index": jnp.arange(count)}
    state = family.init(KEY, {"x": batch["x"][:2]})
    ema = jax.tree.map(np.asarray, state.ema)
    found = jax.tree_util.tree_flatten_with_path(ema["decoder"])[0]
    (weight,) = [leaf for _, leaf in found if leaf.shape == (1, 3)]
    covariance = weight.T @ weight + 0.25 * np.eye(3)
    known = np.array([True, False, True])
    row = np.array([0.7, 0.0, -0.4], np.float32)
    batch |= {
        "x": jnp.asarray(np.broadcast_to(row, (count, 3))),
        "known": jnp.asarray(np.broadcast_to(known, (count, 3))),
    }
    rows = np.asarray(jax.jit(lambda b: family.impute(state, b, KEY, 400))(batch))
    assert (rows[:, known] == row[known]).all()
    centre, spread = gaussian_conditional(np.zeros(3), covariance, row, known)
    error = 4 * np.sqrt(spread[0, 0] / count)
    np.testing.assert_allclose(rows[:, 1].mean(), centre[0], atol=error)
    np.testing.assert_allclose(rows[:, 1].var(), spread[0, 0], rtol=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("num_levels", [None, 5])
def test_flows_keep_what_is_known_also_of_standardized_data(num_levels):
    family = families.flow(
        model=coupling_flow(
            event_shape=(3,), elementwise="affine", num_layers=1, hidden_size=4, num_blocks=1
        ),
        optimizer=optax.adam(1e-3), event_shape=(3,), num_levels=num_levels,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x = rng.integers(5, size=(6, 3)).astype(np.uint8) if num_levels else rng.normal(size=(6, 3))
    if num_levels is None:
        x, family = (
            x.astype("f4") * 3.0,
            families.standardized(family, np.array([1.0, 0.0, 2.0]), np.full(3, 3.0)),
        )
    known = rng.random((6, 3)) < 0.5
    batch = {"x": jnp.asarray(x), "known": jnp.asarray(known)}
    state = jax.jit(family.init)(KEY, batch)
    rows = np.asarray(jax.jit(lambda b: family.impute(state, b, KEY, 10))(batch))
    assert rows.dtype == x.dtype
    np.testing.assert_array_equal(rows[known], x[known])
    assert (rows[~known] != x[~known]).any()
    if num_levels:
        assert rows.max() < 5


def test_chains_too_short_to_find_a_start_are_refused():
    with pytest.raises(ValueError, match="num_steps must be at least 2"):
        langevin(lambda x: -jnp.sum(x, 1), jnp.zeros((1, 1)), jnp.ones((1, 1), bool), KEY,
                 num_steps=1)  # fmt: skip
