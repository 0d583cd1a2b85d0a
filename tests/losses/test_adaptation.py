"""Gradient reversal, its schedule and the weights of conditional domain adaptation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from genjax import losses

RNG = np.random.default_rng(0)


def test_reversal_is_the_identity_and_its_gradient_is_turned_round():
    x = jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)
    np.testing.assert_array_equal(losses.reverse_gradient(x, jnp.array(0.7)), x)

    def loss(x, factor):
        return jnp.sum(jnp.sin(losses.reverse_gradient(x, factor)))

    found, of_factor = jax.grad(loss, (0, 1))(x, jnp.array(0.7))
    np.testing.assert_allclose(found, -0.7 * jnp.cos(x), rtol=1e-6)
    assert float(of_factor) == 0.0
    np.testing.assert_array_equal(jax.grad(loss)(x, jnp.array(0.0)), jnp.zeros_like(x))
    half = jax.grad(lambda x: loss(x, jnp.array(0.5)).astype("f4"))(x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


def test_the_schedule_is_that_of_the_paper_and_stays_where_it_ends():
    steps = np.array([0, 1, 300, 1000, 5000])
    share = np.minimum(steps / 1000, 1.0)
    expected = 2.0 / (1.0 + np.exp(-10.0 * share)) - 1.0
    found = losses.reversal_schedule(jnp.asarray(steps), 1000)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert float(found[0]) == 0.0
    with pytest.raises(ValueError, match="must be positive, got 0"):
        losses.reversal_schedule(jnp.array(1.0), 0)


def test_weights_are_one_plus_the_exponential_of_minus_the_entropy():
    logits = RNG.normal(size=(5, 3)) * 3
    weights = 1.0 + np.exp(-entropy(softmax(logits, axis=1), axis=1))
    found = losses.entropy_weights(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(found, weights / weights.mean(), rtol=1e-5)
    slope = jax.grad(lambda v: losses.entropy_weights(v)[0])(jnp.asarray(logits, jnp.float32))
    assert not slope.any()


def test_multilinear_features_are_outer_products_and_reach_no_logit():
    features, logits = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2))
    given = jnp.asarray(features, jnp.float32), jnp.asarray(logits, jnp.float32)
    expected = np.einsum("bk,bf->bkf", softmax(logits, axis=1), features).reshape(4, 6)
    np.testing.assert_allclose(losses.multilinear_features(*given), expected, rtol=1e-5)
    slope = jax.grad(lambda v: losses.multilinear_features(given[0], v).sum())(given[1])
    assert not slope.any()


def test_what_does_not_fit_is_refused(unchecked):
    with pytest.raises(ValueError, match=r"of as many rows, got \[2, 3\] and \[4, 2\]"):
        losses.multilinear_features(jnp.ones((2, 3)), jnp.ones((4, 2)))
    with pytest.raises(ValueError, match=r"logits of classes \[B, K\], got shape \[4\]"):
        losses.entropy_weights(jnp.ones(4))
