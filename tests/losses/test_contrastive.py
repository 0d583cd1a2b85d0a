"""Contrastive losses: floors of repeated captions, and what a double loop says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from genjax import losses

RNG = np.random.default_rng(0)


def rows(count, num_captions, size=8):
    """Captions ``[B, 1]`` and vectors of unit length of images and texts."""
    tokens = RNG.integers(num_captions, size=(count, 1))
    vectors = [losses.unit_length(jnp.asarray(RNG.normal(size=(count, size)))) for _ in range(2)]
    return jnp.asarray(tokens), *vectors


def loss_of(image, text, tokens, *, soft, scale=100.0):
    same = losses.same_captions(tokens, tokens)
    targets = losses.caption_targets(same) if soft else jnp.eye(len(tokens))
    logits = scale * image @ text.T
    return losses.contrastive_loss(logits, logits.T, targets)


@pytest.mark.parametrize(
    "size, captions, nats", [(64, 10, 1.93), (256, 100, 1.16), (64, 100, 0.39)]
)
def test_the_floor_is_the_expected_log_of_the_number_of_copies(size, captions, nats):
    others = np.arange(size)  # of the caption of a row: binomial
    exact = np.sum(stats.binom.pmf(others, size - 1, 1 / captions) * np.log1p(others))
    drawn = [rows(size, captions)[0] for _ in range(100)]
    found = [losses.contrastive_floor(losses.same_captions(t, t)).mean() for t in drawn]
    assert exact == pytest.approx(nats, abs=0.006)
    assert np.mean(found) == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("soft", [True, False])
def test_no_vectors_are_below_the_floor_and_those_of_the_captions_reach_it(soft):
    tokens, image, text = rows(64, 10)
    floor = losses.contrastive_floor(losses.same_captions(tokens, tokens))
    by_caption = jnp.eye(10)[tokens[:, 0]]
    best = loss_of(by_caption, by_caption, tokens, soft=soft)
    np.testing.assert_allclose(best, floor, atol=1e-5)
    if soft:
        assert (loss_of(image, text, tokens, soft=True) > floor).all()
    # Own targets may be met in single rows; no texts that are equal where captions are do in all.
    equal = text[jnp.argmax(losses.same_captions(tokens, tokens), axis=1)]
    assert loss_of(image, equal, tokens, soft=soft, scale=3.0).mean() > floor.mean()


def test_at_the_floor_soft_targets_stand_still_and_own_ones_push_equal_rows_apart():
    tokens = jnp.array([[0], [0], [1]])
    vectors = jnp.eye(2)[tokens[:, 0]]

    def slope(soft):
        return jax.grad(lambda text: loss_of(vectors, text, tokens, soft=soft).sum())(vectors)

    np.testing.assert_allclose(slope(True), 0.0, atol=1e-5)
    image = jnp.array([[1.0, 0.1], [1.0, -0.1], [0.0, 1.0]])  # two pictures of one caption

    def texts(soft):
        return jax.grad(lambda text: loss_of(image, text, tokens, soft=soft).sum())(vectors)

    apart = texts(False)[0] - texts(False)[1]  # descent moves each text to its own picture
    assert apart[1] < -1.0
    np.testing.assert_allclose(texts(True)[0], texts(True)[1], atol=1e-4)


def test_the_softmax_loss_is_that_of_a_double_loop():
    tokens, image, text = rows(6, 3)
    logits = 7.0 * np.asarray(image) @ np.asarray(text).T
    expected = np.zeros(6)
    for i in range(6):
        mine = [j for j in range(6) if int(tokens[j, 0]) == int(tokens[i, 0])]
        by_text, by_image = special.log_softmax(logits[i]), special.log_softmax(logits[:, i])
        expected[i] = -0.5 * np.mean([by_text[j] + by_image[j] for j in mine])
    found = loss_of(image, text, tokens, soft=True, scale=7.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_sigmoid_loss_is_that_of_a_double_loop():
    tokens, image, text = rows(6, 3)
    logits = 10.0 * image @ text.T - 10.0
    expected = np.zeros(6)
    for i in range(6):
        for j in range(6):
            sign = 1.0 if int(tokens[i, 0]) == int(tokens[j, 0]) else -1.0
            expected[i] += np.log1p(np.exp(-sign * float(logits[i, j])))
    found = losses.sigmoid_contrastive_loss(logits, losses.same_captions(tokens, tokens))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_at_its_beginning_the_sigmoid_loss_is_that_of_almost_no_pairs():
    # Orthogonal vectors, the bias -10 of the paper: 10 nats for a right pair, none for others.
    found = losses.sigmoid_contrastive_loss(jnp.full((8, 8), -10.0), jnp.eye(8, dtype=bool))
    expected = np.log1p(np.exp(10.0)) + 7 * np.log1p(np.exp(-10.0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("soft", [True, False])
def test_rows_in_another_order_have_their_losses_in_that_order(soft):
    tokens, image, text = rows(12, 4)
    order = RNG.permutation(12)
    moved = loss_of(image[order], text[order], tokens[order], soft=soft, scale=5.0)
    expected = loss_of(image, text, tokens, soft=soft, scale=5.0)[order]
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_a_part_of_the_rows_has_its_losses_among_all():
    tokens, image, text = rows(8, 3)
    same = losses.same_captions(tokens[2:5], tokens)
    targets = losses.caption_targets(same)
    part = losses.contrastive_loss(image[2:5] @ text.T, text[2:5] @ image.T, targets)
    whole = loss_of(image, text, tokens, soft=True, scale=1.0)
    np.testing.assert_allclose(part, whole[2:5], rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"image_logits \[2, 3\], targets \[2, 2\]"):
        losses.contrastive_loss(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"logits \[2, 3\], same \[3, 2\]"):
        losses.sigmoid_contrastive_loss(jnp.ones((2, 3)), jnp.ones((3, 2), bool))
    with pytest.raises(ValueError, match=r"captions of one length.*\[2, 3\] and \[2, 4\]"):
        losses.same_captions(jnp.ones((2, 3), int), jnp.ones((2, 4), int))


def test_a_vector_of_zeros_has_a_slope():
    slope = jax.grad(lambda x: losses.unit_length(x).sum())(jnp.zeros((1, 3)))
    assert np.isfinite(slope).all()
