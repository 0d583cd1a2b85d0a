import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import diffusion
from genjax.diffusion import weightings

TABLES = json.loads((pathlib.Path(__file__).parent / "reference_samplers.json").read_text())[
    "tables"
]
PREDICTIONS = {
    "noise": diffusion.Noise(),
    "data": diffusion.Data(),
    "score": diffusion.Score(),
    "v": diffusion.V(),
    "velocity": diffusion.Velocity(),
    "edm": diffusion.Preconditioned(0.7),
}
# Scales of processes that preserve variance, keep the signal, go straight or keep less than both.
SCALES = np.array(
    [[0.8, 0.6], [1e-2, 1.0], [1.0, 1e-2], [1.0, 80.0], [0.3, 0.7], [0.5, 0.1], [0.02, 0.04]]
)
# What each estimate is uncertain by, in roundings of z, at alpha and sigma.
LOST = {
    "noise": lambda a, s: (max(1, s) / a, 1),
    "score": lambda a, s: (max(1, s) / a, 1),
    "data": lambda a, s: (1, max(1, s) / s),
}


COUNT = len(SCALES)


def rows(dtype=jnp.float32, count=COUNT):
    x, noise, other = jax.random.normal(jax.random.key(0), (3, count, 5, 2), dtype)
    return 0.7 * x, noise, other


def columns(scales, dtype=jnp.float32):
    return (jnp.asarray(column, dtype)[:, None, None] for column in np.asarray(scales).T)


def assert_exact(name, scales, dtype):
    """Estimates by the exact target are the data and the noise, as far as rounding lets them."""
    kind, eps = PREDICTIONS[name], float(jnp.finfo(dtype).eps)
    x, noise, _ = rows(dtype, len(scales))
    alpha, sigma = columns(scales, dtype)
    z = alpha * x + sigma * noise
    found = kind.estimate(kind.target(x, noise, alpha, sigma), z, alpha, sigma)
    assert found.data.dtype == found.noise.dtype == dtype
    for i, (a, s) in enumerate(scales):
        of_data, of_noise = LOST.get(name, lambda a, s: (1 / max(a, s), 1 / max(a, s)))(a, s)
        size = 30 * eps * max(a, s, 1)
        np.testing.assert_allclose(found.data[i], x[i], atol=size * of_data, rtol=0)
        np.testing.assert_allclose(found.noise[i], noise[i], atol=size * of_noise, rtol=0)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_exact_target_gives_back_data_and_noise(name, strict):
    assert_exact(name, SCALES, jnp.float32)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_exact_target_gives_back_data_and_noise_close_to_both_ends(name, x64):
    ends = [(1e-6, 1.0), (1.0, 1e-6), (1e-3, 1.0), (1.0, 1e-4)]
    if name not in LOST:  # these need neither scale in a denominator
        ends += [(0.0, 1.0), (1.0, 0.0)]
    assert_exact(name, ends, jnp.float64)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_estimates_stay_finite_where_a_scale_is_zero(name):
    kind = PREDICTIONS[name]
    x, noise, _ = rows(count=2)
    alpha, sigma = columns([(0.0, 1.0), (1.0, 0.0)])
    z = alpha * x + sigma * noise
    out = kind.target(x, noise, alpha, sigma)
    for value in (*kind.estimate(out, z, alpha, sigma), kind.log_noise_error(alpha, sigma)):
        assert bool(jnp.isfinite(value).all())


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_latent_is_made_of_both_estimates_whatever_the_output(name, x64):
    kind = PREDICTIONS[name]
    _, z, out = rows(jnp.float64)
    alpha, sigma = columns(SCALES, jnp.float64)
    data, noise = kind.estimate(out, z, alpha, sigma)
    np.testing.assert_allclose(alpha * data + sigma * noise, z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_error_of_the_noise_is_that_share_of_the_output_s(name, x64):
    kind = PREDICTIONS[name]
    x, noise, other = rows(jnp.float64)
    alpha, sigma = columns(SCALES, jnp.float64)
    target = kind.target(x, noise, alpha, sigma)
    out = target + other
    found = kind.estimate(out, alpha * x + sigma * noise, alpha, sigma)
    share = jnp.exp(kind.log_noise_error(alpha, sigma))
    np.testing.assert_allclose((noise - found.noise) ** 2, share * other**2, rtol=1e-6)


def test_a_prediction_s_gradient_through_the_estimate_is_finite_at_both_ends():
    x, noise, other = rows(count=2)
    alpha, sigma = columns([(0.0, 1.0), (1.0, 0.0)])

    def size(out, kind):
        data, noise_hat = kind.estimate(out, alpha * x + sigma * noise, alpha, sigma)
        return jnp.sum(jnp.tanh(data) + jnp.tanh(noise_hat))

    for kind in PREDICTIONS.values():
        assert bool(jnp.isfinite(jax.grad(size)(other, kind)).all())


def test_edm_is_its_table_where_the_signal_is_kept(x64):
    # Numbers of k-diffusion: Karras et al., arXiv:2206.00364, table 1.
    table = {key: np.array(value) for key, value in TABLES["edm"].items()}
    sigma, alpha = jnp.array(table["sigma"]), jnp.ones(5)
    kind = diffusion.Preconditioned(float(table["sigma_data"]))
    z, out = jax.random.normal(jax.random.key(0), (2, 5))
    found = kind.estimate(out, z, alpha, sigma)
    np.testing.assert_allclose(found.data, table["c_skip"] * z + table["c_out"] * out, rtol=1e-12)
    np.testing.assert_allclose(diffusion.input_scale(0.5, alpha, sigma), table["c_in"], rtol=1e-12)
    # The weight of the data's error: that of the noise's, times the signal-to-noise ratio.
    weight = weightings.EDM(0.5).log_weight(2 * jnp.log(sigma), jnp.ones(5))
    np.testing.assert_allclose(jnp.exp(weight) / sigma**2, table["loss_weight"], rtol=1e-12)
    # So that the output's error has weight one.
    np.testing.assert_allclose(weight + kind.log_noise_error(alpha, sigma), 0.0, atol=1e-12)


@pytest.mark.parametrize("deviation", [0.5, 3.0])
def test_edm_s_target_has_unit_variance_and_its_input_too(deviation):
    x, noise = jax.random.normal(jax.random.key(1), (2, 20_000))
    for alpha, sigma in SCALES[:5]:
        kind = diffusion.Preconditioned(deviation)
        target = kind.target(deviation * x, noise, jnp.float32(alpha), jnp.float32(sigma))
        assert float(jnp.std(target)) == pytest.approx(1.0, abs=0.03)
        z = diffusion.input_scale(deviation, jnp.float32(alpha), jnp.float32(sigma))
        z = z * (alpha * deviation * x + sigma * noise)
        assert float(jnp.std(z)) == pytest.approx(1.0, abs=0.03)


def test_v_is_that_of_diffusers(x64):
    table = {key: jnp.array(v) for key, v in TABLES["v_prediction"].items() if key != "schedule"}
    alpha, sigma = table["alpha"][:, None], table["sigma"][:, None]
    kind = diffusion.V()
    found = kind.target(table["x"], table["noise"], alpha, sigma)
    np.testing.assert_allclose(found, table["v"], rtol=1e-10)
    data, noise = kind.estimate(table["v"], table["z"], alpha, sigma)
    np.testing.assert_allclose(data, table["x"], rtol=1e-10)
    np.testing.assert_allclose(noise, table["noise"], rtol=1e-10)


def test_the_score_is_minus_the_noise_over_its_scale(x64):
    # Of data N(0, s^2) the score is -z over the variance of z, and E[noise | z] = sigma z over it.
    z, alpha, sigma, s = jnp.linspace(-3.0, 3.0, 7), 0.8, 0.6, 0.5
    variance = alpha**2 * s**2 + sigma**2
    found = diffusion.Score().estimate(-z / variance, z, jnp.array(alpha), jnp.array(sigma))
    np.testing.assert_allclose(found.noise, sigma * z / variance, rtol=1e-12)
    np.testing.assert_allclose(found.data, alpha * s**2 * z / variance, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_deviations_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="sigma_data must be a positive number"):
        diffusion.Preconditioned(value)
