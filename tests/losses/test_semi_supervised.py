"""Losses of a critic that is a classifier, against softmaxes written out and the optimal critic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import losses

LOGITS = jax.random.normal(jax.random.key(0), (5, 3))
LABEL = jnp.array([0, 2, 1, 1, 0])


def total(labelled, unlabelled, generated, *, given_real):
    """The three critic terms of Salimans et al., with their means."""
    return (
        jnp.mean(losses.labelled_loss(labelled, LABEL, given_real=given_real))
        + jnp.mean(losses.unlabelled_loss(unlabelled))
        + jnp.mean(losses.generated_loss(generated))
    )


def explicit(labelled, unlabelled, generated, *, given_real):
    """The same of probabilities of C + 1 classes, written out."""
    p, q, r = (jax.nn.softmax(logits, axis=1) for logits in (labelled, unlabelled, generated))
    known = p[jnp.arange(5), LABEL] / (jnp.sum(p[:, :-1], axis=1) if given_real else 1.0)
    return -jnp.mean(jnp.log(known) + jnp.log(jnp.sum(q[:, :-1], axis=1)) + jnp.log(r[:, -1]))


@pytest.mark.parametrize("given_real", [False, True])
def test_both_forms_are_the_softmax_of_all_classes_in_value_and_gradient(given_real):
    parts = (LOGITS, 2.0 * LOGITS, LOGITS - 1.0)

    def of_form(loss):
        def value(parts):
            return loss(*map(losses.with_generated_logit, parts), given_real=given_real)

        return jax.value_and_grad(value)(parts)

    (a, a_grads), (b, b_grads) = of_form(total), of_form(explicit)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    for ours, theirs in zip(a_grads, b_grads, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    # The published code, of C logits: logsumexp and softplus.
    lse = [jax.nn.logsumexp(logits, axis=1) for logits in parts]
    known = LOGITS[jnp.arange(5), LABEL]
    expected = jnp.mean(
        (lse[0] - known) - lse[1] + jax.nn.softplus(lse[1]) + jax.nn.softplus(lse[2])
    )
    if given_real:
        np.testing.assert_allclose(a, expected, rtol=1e-5)


def test_a_number_added_to_all_logits_changes_nothing():
    four = jnp.concatenate([LOGITS, 0.5 * LOGITS[:, :1]], axis=1)
    for given_real in (False, True):
        a = total(four, four, four, given_real=given_real)
        np.testing.assert_allclose(total(*(3 * [four + 7.0]), given_real=given_real), a, rtol=1e-5)


def test_at_the_optimum_the_log_odds_are_the_log_density_ratio():
    # Of two places with probabilities p of data and q of generated rows, and one class.
    p, q = jnp.array([0.8, 0.2]), jnp.array([0.3, 0.7])

    def loss(logit):
        logits = losses.with_generated_logit(logit[:, None])
        return jnp.sum(p * losses.unlabelled_loss(logits) + q * losses.generated_loss(logits))

    best = jnp.log(p / q)
    np.testing.assert_allclose(jax.grad(loss)(best), 0.0, atol=1e-6)
    assert loss(best) < min(loss(best + 0.1), loss(best - 0.1))
    # Several classes share it: only their logsumexp counts.
    two = losses.with_generated_logit(jnp.stack([best, best], axis=1) - jnp.log(2.0))
    np.testing.assert_allclose(losses.real_log_odds(two), best, rtol=1e-5)


def test_the_critics_losses_are_those_of_a_game_of_log_odds():
    logits = losses.with_generated_logit(LOGITS)
    odds = losses.real_log_odds(logits)
    both = losses.unlabelled_loss(logits) + losses.generated_loss(logits)
    np.testing.assert_allclose(both, losses.logistic_critic_loss(odds, odds), rtol=1e-5)
    np.testing.assert_allclose(
        losses.unlabelled_loss(logits), losses.nonsaturating_generator_loss(odds), rtol=1e-5
    )


@pytest.mark.parametrize("distance", ["squared", "absolute"])
def test_feature_matching_has_no_gradient_at_equal_means(distance):
    real, fake = jnp.array([[1.0, 4.0], [3.0, 0.0]]), jnp.array([[2.0, 2.0]])
    value, slope = jax.value_and_grad(losses.feature_matching_loss, 1)(
        real, fake, distance=distance
    )
    assert float(value) == 0.0
    np.testing.assert_array_equal(slope, 0.0)
    moved = losses.feature_matching_loss(real, fake + jnp.array([2.0, 0.0]), distance=distance)
    assert float(moved) == {"squared": 2.0, "absolute": 1.0}[distance]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: losses.labelled_loss(LOGITS, LABEL[:2], given_real=True), "as many rows"),
        (lambda: losses.labelled_loss(LOGITS, LABEL * 1.0, given_real=True), "whole numbers"),
        (lambda: losses.unlabelled_loss(LOGITS[:, :1]), "at least 2 numbers"),
        (lambda: losses.feature_matching_loss(LOGITS, LOGITS[:, :2]), "one shape"),
        (lambda: losses.feature_matching_loss(LOGITS, LOGITS, distance="l2"), "must be 'squared'"),
    ],
)
def test_what_does_not_fit_is_refused(unchecked, call, message):
    with pytest.raises(ValueError, match=message):
        call()
