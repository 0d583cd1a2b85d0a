import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from genjax import losses

pytestmark = pytest.mark.usefixtures("strict")

LOGITS = np.array([-30.0, -3.0, -0.09, -1e-4, 0.0, 0.05, 0.11, 2.0, 12.0])


def row(values):
    return jnp.asarray(values)[None]


def test_binary_data_has_probabilities_that_add_up_to_one():
    logits = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32) * 3.0
    every = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=4)))
    nats = losses.bernoulli_loss(every, jnp.broadcast_to(jnp.asarray(logits), every.shape))
    assert float(jnp.exp(-nats).sum()) == pytest.approx(1.0, rel=1e-6)
    expected = -stats.bernoulli.logpmf([0, 1, 1, 0], 1 / (1 + np.exp(-logits[0].astype(float))))
    found = losses.bernoulli_loss(row([0.0, 1.0, 1.0, 0.0]), jnp.asarray(logits))
    assert float(found[0]) == pytest.approx(expected.sum(), rel=1e-6)


def test_logits_of_any_size_have_finite_losses_and_slopes():
    logits = jnp.array([[-1e4, 1e4, 300.0]])
    for loss in (losses.bernoulli_loss, losses.continuous_bernoulli_loss):
        value, slope = jax.value_and_grad(lambda v, f=loss: f(row([1.0, 1.0, 0.0]), v)[0])(logits)
        assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.usefixtures("x64")
def test_the_continuous_bernoulli_is_a_density():
    for logit in LOGITS:

        def density(x, logit=logit):
            return float(jnp.exp(-losses.continuous_bernoulli_loss(row([x]), row([logit]))[0]))

        total = integrate.quad(density, 0.0, 1.0, points=[0.05, 0.95])[0]
        assert total == pytest.approx(1.0, rel=1e-8), logit
    # torch 2.14's ContinuousBernoulli, whose series is used for probabilities within 1e-5 of half.
    x = np.array([0.02, 0.3, 0.7, 0.5, 0.1, 0.9, 0.4, 0.6, 0.99])
    expected = [
        -2.8011973816622486, -0.24968146961081095, 0.018337477221678444, 4.1622416624420566e-10,
        0.0, -0.019895835503387915, 0.011504115839622964, -0.03856063842880397, -2.36491279401933,
    ]  # fmt: skip
    pairs = zip(x, LOGITS, strict=True)
    found = [losses.continuous_bernoulli_loss(row([a]), row([b]))[0] for a, b in pairs]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("num_levels", [2, 17, 256])
@pytest.mark.parametrize("mean, log_scale", [(0.1, -2.0), (-1.3, -5.0), (40.0, 0.5), (0.2, 9.0)])
def test_probabilities_of_all_levels_add_up_to_one(num_levels, mean, log_scale):
    levels = jnp.arange(num_levels)[:, None]
    nats = losses.discretized_logistic_loss(
        levels, jnp.full(levels.shape, mean), jnp.asarray(log_scale), num_levels=num_levels
    )
    assert float(jnp.exp(-nats).sum()) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.usefixtures("x64")
def test_bins_are_differences_of_the_logistic_distribution_function():
    rng = np.random.default_rng(0)
    levels, mean = rng.integers(1, 16, size=500), rng.normal(size=500) * 3.0
    log_scale = rng.uniform(-3.0, 2.0, size=500)
    found = losses.discretized_logistic_loss(
        jnp.asarray(levels)[:, None], jnp.asarray(mean)[:, None], jnp.asarray(log_scale),
        num_levels=17,
    )  # fmt: skip
    ends = [(levels / 8.0 - 1.0 + side / 16.0 - mean) / np.exp(log_scale) for side in (-1, 1)]
    # From the side where both are below a half, where the difference keeps its digits.
    low, high = (
        np.where(sum(ends) > 0, -ends[1], ends[0]),
        np.where(sum(ends) > 0, -ends[0], ends[1]),
    )
    log = stats.logistic.logcdf(high) + np.log(
        -np.expm1(stats.logistic.logcdf(low) - stats.logistic.logcdf(high))
    )
    np.testing.assert_allclose(found, -log, rtol=1e-10)


def test_a_logistic_far_away_or_of_any_scale_has_finite_losses_and_slopes():
    levels = jnp.array([[0, 7, 15]])

    def loss(mean, log_scale):
        return losses.discretized_logistic_loss(levels, mean, log_scale, num_levels=17)[0]

    for mean, log_scale in [(500.0, -7.0), (0.0, -80.0), (0.0, 80.0), (-1.0, -7.0), (1e4, 0.0)]:
        args = jnp.full((1, 3), mean), jnp.full((1, 3), log_scale)
        value, slopes = jax.value_and_grad(loss, argnums=(0, 1))(*args)
        assert np.isfinite(value) and all(np.isfinite(s).all() for s in slopes), (mean, log_scale)
    # Half a bin beside the mean and many scales from it: the slope points to the data.
    far = jax.grad(loss)(jnp.full((1, 3), 500.0), jnp.full((1, 3), -7.0))
    np.testing.assert_allclose(far, np.exp(7.0) * np.array([[1.0, 1.0, 1.0]]), rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_a_mixture_over_two_channels_adds_up_to_one_and_is_the_sum_of_its_components():
    rng = np.random.default_rng(1)
    every = np.array(list(itertools.product(range(3), repeat=2)))
    logits, means, log_scales, coefficients = (
        rng.normal(size=shape) for shape in [(4,), (2, 4), (2, 4), (1, 4)]
    )

    def rows(values):
        return jnp.broadcast_to(jnp.asarray(values), (len(every), *np.shape(values)))

    found = losses.logistic_mixture_loss(
        jnp.asarray(every), rows(logits), rows(means), rows(log_scales), rows(coefficients),
        num_levels=3,
    )  # fmt: skip
    assert float(jnp.exp(-found).sum()) == pytest.approx(1.0, rel=1e-12)
    # Level by level and component by component.
    weights = np.exp(logits) / np.exp(logits).sum()
    for pixel, nats in zip(every, found, strict=True):
        total = 0.0
        for k in range(4):
            p, before = weights[k], pixel[0] - 1.0
            for c in range(2):
                mean = means[c, k] + (coefficients[0, k] * before if c else 0.0)
                one = stats.logistic(mean, np.exp(log_scales[c, k]))
                x = pixel[c] - 1.0
                upper = one.cdf(x + 0.5) if pixel[c] < 2 else 1.0
                p *= upper - (one.cdf(x - 0.5) if pixel[c] else 0.0)
            total += p
        assert float(nats) == pytest.approx(-np.log(total), rel=1e-10)


def test_coefficients_join_each_channel_to_those_before_it():
    levels = jnp.array([[[0, 2, 1]]])  # one row of one pixel: -1, 1, 0
    zeros = jnp.zeros((1, 1, 3, 1))
    coefficients = jnp.array([0.25, 0.5, 1.0])[None, None, :, None]
    moved = jnp.array([0.0, -0.25, -0.5 + 1.0])[None, None, :, None]
    joined = losses.logistic_mixture_loss(
        levels, zeros[:, :, 0], zeros, zeros, coefficients, num_levels=3
    )
    apart = losses.logistic_mixture_loss(levels, zeros[:, :, 0], moved, zeros, num_levels=3)
    assert float(joined[0]) == pytest.approx(float(apart[0]), rel=1e-6)


def test_one_component_of_one_channel_is_the_logistic():
    levels = jnp.arange(17)[None, :, None]
    mean = jnp.linspace(-1.0, 1.0, 17)[None, :, None]
    mixture = losses.logistic_mixture_loss(
        levels, jnp.zeros((1, 17, 1)), mean[..., None], mean[..., None] - 2.0, num_levels=17
    )
    alone = losses.discretized_logistic_loss(levels, mean, mean - 2.0, num_levels=17)
    np.testing.assert_allclose(mixture, alone, rtol=1e-6)


@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 1.0, 6.0])
@pytest.mark.parametrize("num_levels", [2, 16, 256])
def test_laplace_bins_are_differences_of_the_distribution_function(num_levels, log_scale):
    rng = np.random.default_rng(0)
    levels = rng.integers(num_levels, size=(5, 40))
    location = rng.uniform(-1.3, 1.3, size=(5, 40)).astype(np.float32)
    reach = 1.0 / (num_levels - 1)
    centres = 2.0 * levels * reach - 1.0
    one = stats.laplace(location.astype(float), np.exp(log_scale))
    high = np.where(levels == num_levels - 1, np.inf, centres + reach)
    low = np.where(levels == 0, -np.inf, centres - reach)
    # From the side that has digits.
    upper, lower = one.sf(low) - one.sf(high), one.cdf(high) - one.cdf(low)
    expected = -np.log(np.where(centres > location, upper, lower)).sum(1)
    found = losses.discretized_laplace_loss(
        jnp.asarray(levels), jnp.asarray(location), jnp.float32(log_scale), num_levels=num_levels
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_laplace_density_is_that_of_the_library_and_of_bins_that_are_narrow():
    rng = np.random.default_rng(0)
    x, location = rng.normal(size=(2, 3, 4)).astype(np.float32)
    found = losses.laplace_loss(jnp.asarray(x), jnp.asarray(location), jnp.float32(0.4))
    np.testing.assert_allclose(found, -stats.laplace.logpdf(x, location, np.exp(0.4)).sum(1), 1e-5)
    levels = rng.integers(1, 255, size=(3, 4))
    centres = jnp.asarray(2.0 * levels / 255 - 1.0, jnp.float32)
    density = losses.laplace_loss(centres, jnp.asarray(location), jnp.float32(1.0))
    bins = losses.discretized_laplace_loss(
        jnp.asarray(levels), jnp.asarray(location), jnp.float32(1.0)
    )
    np.testing.assert_allclose(bins, density - 4 * np.log(2 / 255), rtol=1e-4)


def test_shapes_that_do_not_fit_are_refused(unchecked):
    levels, one = jnp.zeros((1, 2, 3), jnp.int32), jnp.zeros((1, 2, 3, 5))
    with pytest.raises(ValueError, match=r"expected logits \[B, \*space, K\]"):
        losses.logistic_mixture_loss(levels, jnp.zeros((1, 2, 4)), one, one, num_levels=4)
    with pytest.raises(ValueError, match="expected 3 coefficients for 3 channels, got 1"):
        losses.logistic_mixture_loss(
            levels, one[..., 0, :], one, one, jnp.zeros((1, 2, 1, 5)), num_levels=4
        )
    with pytest.raises(ValueError, match="num_levels must be at least 2"):
        losses.discretized_logistic_loss(levels, one[..., 0], jnp.zeros(()), num_levels=1)
    with pytest.raises(ValueError, match="expected arrays of one shape"):
        losses.bernoulli_loss(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
