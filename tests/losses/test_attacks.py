"""Attacks against closed forms of linear models, and against torchattacks 3.5.1."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genjax import losses

RNG = np.random.default_rng(0)
W, B = jnp.asarray(RNG.normal(size=6), jnp.float32), 0.3
X = jnp.asarray(RNG.uniform(0.35, 0.65, size=(5, 6)), jnp.float32)
SIGNS = jnp.asarray([1.0, -1.0, 1.0, 1.0, -1.0])


def logistic(x):
    return jax.nn.softplus(-SIGNS * (x.reshape(5, -1) @ W + B))


@pytest.mark.parametrize("norm, dual", [("linf", jnp.abs(W).sum()), ("l2", jnp.linalg.norm(W))])
def test_of_a_linear_model_the_worst_loss_is_known(norm, dual):
    epsilon = 0.25
    expected = jax.nn.softplus(-SIGNS * (X @ W + B) + epsilon * dual)
    once = losses.fgsm(logistic, X, epsilon=epsilon, norm=norm)
    np.testing.assert_allclose(logistic(once), expected, rtol=1e-5)
    start = jnp.asarray(RNG.uniform(-epsilon, epsilon, size=X.shape), jnp.float32)
    many = losses.pgd(
        logistic, X, epsilon=epsilon, step_size=0.2, num_steps=8, start=start, norm=norm
    )
    np.testing.assert_allclose(logistic(many), expected, rtol=1e-3 if norm == "l2" else 1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
def test_rows_stay_in_ball_and_box(norm, epsilon):
    x = jnp.asarray(RNG.uniform(size=(5, 2, 3, 1)), jnp.float32)
    start = jnp.asarray(RNG.uniform(-epsilon, epsilon, size=x.shape), jnp.float32)
    found = losses.pgd(
        logistic, x, epsilon=epsilon, step_size=0.2, num_steps=5, start=start, norm=norm,
        low=0.0, high=1.0,
    )  # fmt: skip
    change = np.asarray(found - x).reshape(5, -1)
    length = np.abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
    assert (length <= epsilon + 1e-6).all() and (found >= 0.0).all() and (found <= 1.0).all()
    if epsilon == 0.0:
        np.testing.assert_array_equal(found, x)
    else:
        assert (logistic(found) > logistic(x)).all() and length.max() > 0.99 * epsilon


def test_a_flat_loss_moves_nothing_and_gives_no_nan():
    for norm in ("linf", "l2"):
        found = losses.fgsm(lambda x: 0.0 * x[:, 0], X, epsilon=0.3, norm=norm)
        np.testing.assert_array_equal(found, X)


# Rows of torchattacks 3.5.1 (FGSM, PGD and PGDL2 without random start) on a network of tanh units.
THEIRS = {
    "fgsm": [
        [0.953108, 0.553292, 0.766311, 0.544426, 0.458970, 0.410375],
        [0.356330, 0.438183, 0.000000, 0.068725, 1.000000, 0.397101],
        [1.000000, 0.000000, 1.000000, 0.768651, 0.676761, 0.304846],
        [0.439264, 0.339188, 0.000000, 0.000000, 0.596140, 0.418728],
    ],
    "pgd": [
        [0.953108, 0.353292, 0.766311, 0.344426, 0.258970, 0.210375],
        [0.356330, 0.438183, 0.000000, 0.668725, 0.700000, 0.000000],
        [1.000000, 0.000000, 1.000000, 0.768651, 0.676761, 0.304846],
        [0.439264, 0.339188, 0.000000, 0.300000, 0.396140, 0.418728],
    ],
    "pgd_l2": [
        [1.000000, 0.289650, 0.727681, 0.329936, 0.233150, 0.020548],
        [0.190185, 0.229223, 0.049361, 0.406791, 0.804046, 0.065315],
        [1.000000, 0.000000, 1.000000, 0.514776, 0.596057, 0.378434],
        [0.313657, 0.168687, 0.150004, 0.134352, 0.423640, 0.252877],
    ],
}


def test_attacks_agree_with_torchattacks():
    draws = np.random.RandomState(0)
    first, second = draws.randn(6, 5).astype("f"), draws.randn(5, 3).astype("f")
    x, label = jnp.asarray(draws.rand(4, 6).astype("f")), jnp.asarray([0, 1, 2, 1])

    def loss(rows):
        logits = jnp.tanh(rows @ first) @ second
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)

    box = dict(low=0.0, high=1.0)
    steps = dict(num_steps=5, **box)
    found = {
        "fgsm": losses.fgsm(loss, x, epsilon=0.3, **box),
        "pgd": losses.pgd(loss, x, epsilon=0.3, step_size=0.1, **steps),
        "pgd_l2": losses.pgd(loss, x, epsilon=0.5, step_size=0.2, norm="l2", **steps),
    }
    for name, rows in THEIRS.items():
        np.testing.assert_allclose(found[name], rows, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(epsilon=-0.1), "must not be negative, got -0.1"),
        (dict(norm="l1"), "must be 'linf' or 'l2', got 'l1'"),
        (dict(low=1.0, high=0.0), "is empty"),
        (dict(num_steps=0), "num_steps must be at least 1"),
    ],
)
def test_attacks_that_cannot_be_are_refused(kwargs, message, unchecked):
    given = dict(epsilon=0.1, step_size=0.1, num_steps=1)
    with pytest.raises(ValueError, match=message):
        losses.pgd(logistic, X, **{**given, **kwargs})
