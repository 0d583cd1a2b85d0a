"""Bounds and their gradients on a model whose evidence is known: z ~ N(0, 1), x|z ~ N(a z, 1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genjax import losses

pytestmark = pytest.mark.usefixtures("strict")

SLOPE = 1.5
X = np.array([0.3, -2.0, 1.1])
# The posterior of z is N(a x / (1 + a^2), 1 / (1 + a^2)).
EXACT = {
    "weight": SLOPE / (1 + SLOPE**2), "log_std": -0.5 * np.log(1 + SLOPE**2), "slope": SLOPE,
}  # fmt: skip
OTHER = {"weight": 0.1, "log_std": -0.2, "slope": SLOPE}


def normal(x, mean, log_std):
    return -0.5 * jnp.square((x - mean) * jnp.exp(-log_std)) - log_std - 0.5 * np.log(2 * np.pi)


def bound(params, noise, gradient="plain"):
    x = jnp.asarray(X, noise.dtype)

    def posterior(params):
        return params["weight"] * x, params["log_std"]

    mean, log_std = posterior(params)
    z = mean + jnp.exp(log_std) * noise

    def log_weight(z, frozen):
        q = jax.lax.stop_gradient(params) if frozen else params
        prior, data = normal(z, 0.0, 0.0), normal(x, params["slope"] * z, 0.0)
        return prior + data - normal(z, *posterior(q))

    return losses.importance_weighted_loss(log_weight, z, gradient=gradient)


def as_arrays(params):
    return {k: jnp.asarray(v, jnp.float64) for k, v in params.items()}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("gradient", ["plain", "stl", "dreg"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_with_the_exact_posterior_every_draw_gives_the_evidence(gradient, count):
    noise = jax.random.normal(jax.random.key(0), (count, 3), jnp.float64)
    found = bound(as_arrays(EXACT), noise, gradient)
    expected = -stats.norm(0, np.sqrt(1 + SLOPE**2)).logpdf(X)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("count", [1, 5])
def test_with_the_exact_posterior_the_encoder_has_no_gradient_noise(count):
    noise = jax.random.normal(jax.random.key(0), (count, 3), jnp.float64)
    slopes = {
        name: jax.grad(lambda p, name=name: bound(p, noise, name).sum())(as_arrays(EXACT))
        for name in ("plain", "stl", "dreg")
    }
    for part in ("weight", "log_std"):
        assert abs(float(slopes["stl"][part])) < 1e-12 and abs(float(slopes["dreg"][part])) < 1e-12
        assert abs(float(slopes["plain"][part])) > 1e-3  # zero on average alone
    # The decoder has a gradient, the same for all.
    assert float(slopes["dreg"]["slope"]) == pytest.approx(float(slopes["plain"]["slope"]))


@pytest.mark.usefixtures("x64")
def test_plain_and_doubly_reparameterized_gradients_agree_on_average_and_sticking_does_not():
    draws = 40_000
    noise = jax.random.normal(jax.random.key(1), (draws, 4, 3), jnp.float64)

    @jax.jit
    def slopes(noise):
        def one(gradient):
            return jax.vmap(jax.grad(lambda p, n: bound(p, n, gradient).sum()), in_axes=(None, 0))(
                as_arrays(OTHER), noise
            )

        return {name: one(name) for name in ("plain", "stl", "dreg")}

    found = slopes(noise)
    for part in ("weight", "log_std", "slope"):
        means = {k: float(v[part].mean()) for k, v in found.items()}
        errors = {k: float(v[part].std()) / draws**0.5 for k, v in found.items()}
        allowed = 4.0 * np.hypot(errors["plain"], errors["dreg"])
        assert abs(means["dreg"] - means["plain"]) < allowed, part
        if part == "slope":
            assert means["stl"] == pytest.approx(means["plain"], rel=1e-9)
        else:
            assert errors["dreg"] < errors["plain"]
            assert abs(means["stl"] - means["plain"]) > allowed  # its bias


@pytest.mark.usefixtures("x64")
def test_one_draw_is_the_evidence_lower_bound_and_more_are_tighter():
    noise = jax.random.normal(jax.random.key(2), (60, 3), jnp.float64)
    params = as_arrays(OTHER)
    each = jnp.stack([bound(params, n[None]) for n in noise])
    std = np.exp(OTHER["log_std"])
    mean = OTHER["weight"] * X
    kl = 0.5 * (mean**2 + std**2 - 1) - np.log(std)
    # E[-log p(x|z)] under q, in closed form.
    data = 0.5 * ((X - SLOPE * mean) ** 2 + (SLOPE * std) ** 2 + np.log(2 * np.pi))
    spread = np.asarray(each).std(0) / 60**0.5
    assert (np.abs(np.asarray(each).mean(0) - data - kl) < 4 * spread).all()
    assert (bound(params, noise) < each.mean(0)).all()
    np.testing.assert_allclose(
        bound(params, noise), losses.importance_weighted_nats(each), rtol=1e-12
    )


def test_effective_sample_size_counts_equal_weights_and_ignores_their_scale(unchecked):
    weights = jnp.array([[1.0, 1.0, 5.0], [1.0, 0.0, 1e-3], [1.0, 0.0, 1e-3]])
    for scale in (0.0, 500.0, -500.0):
        found = losses.effective_sample_size(jnp.log(weights) + scale)
        np.testing.assert_allclose(found[:2], [3.0, 1.0], rtol=1e-4)
        assert 1.0 <= float(found[2]) < 1.01
    with pytest.raises(ValueError, match="expected draws along the first axis"):
        losses.effective_sample_size(jnp.zeros(()))


def test_free_bits_cost_their_minimum_and_have_no_slope_below_it():
    kl = jnp.array([[0.1, 2.0, 0.5], [0.3, 4.0, 0.5]])
    value, slope = jax.value_and_grad(losses.free_bits_loss)(kl, 0.4)
    assert float(value) == pytest.approx(0.4 + 3.0 + 0.5)
    np.testing.assert_allclose(slope, [[0.0, 0.5, 0.5]] * 2)
    # The mean over the batch is compared, not each example.
    assert float(losses.free_bits_loss(jnp.array([[0.0], [1.0]]), 0.4)) == pytest.approx(0.5)
    assert float(losses.free_bits_loss(kl, 0.0)) == pytest.approx(float(kl.sum(1).mean()))


def test_a_shared_variance_is_the_best_one_of_all():
    error = jnp.array([3.0, 1.0, 0.5])

    def nats(log_variance):
        return jnp.mean(
            losses.gaussian_loss(jnp.sqrt(error / 4)[:, None] * jnp.ones(4), jnp.zeros((3, 4)),
                                 log_variance)
        )  # fmt: skip

    best = jnp.log(error.mean() / 4)
    found = losses.shared_variance_loss(error, 4)
    assert float(found) == pytest.approx(float(nats(best)), rel=1e-6)
    assert float(nats(best + 0.2)) > float(found) and float(nats(best - 0.2)) > float(found)


def test_a_capacity_is_approached_from_both_sides():
    found = losses.capacity_loss(jnp.array([3.0, 7.0]), 5.0, weight=10.0)
    np.testing.assert_allclose(found, [20.0, 20.0])


def test_arguments_out_of_range_are_refused(unchecked):
    with pytest.raises(ValueError, match="gradient must be one of"):
        losses.importance_weighted_loss(lambda z, f: z, jnp.zeros((1, 1)), gradient="reinforce")
    with pytest.raises(ValueError, match=r"expected log weights \[K, B\] = \[2, 3\], got \[2\]"):
        losses.importance_weighted_loss(lambda z, f: z[:, 0], jnp.zeros((2, 3)))
    for call in [
        lambda: losses.free_bits_loss(jnp.zeros(3), 0.1),
        lambda: losses.free_bits_loss(jnp.zeros((3, 1)), -0.1),
        lambda: losses.capacity_loss(jnp.zeros(3), 1.0, weight=-1.0),
        lambda: losses.shared_variance_loss(jnp.zeros(3), 0),
    ]:
        with pytest.raises(ValueError):
            call()
