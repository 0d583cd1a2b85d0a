"""Directions in activations, against scikit-learn and by construction."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from genjax.diffusion.directions import (
    mean_difference,
    principal_components,
    projected_off,
    random_direction,
)


@pytest.mark.parametrize("shape", [(5, 4, 3), (3,)], ids=["many entries", "few entries"])
def test_components_are_those_of_scikit_learn_at_each_call(shape):
    h = np.random.default_rng(0).normal(size=(20, 6, *shape)).astype("f4")
    h *= np.linspace(1.0, 2.0, np.prod(shape), dtype="f4").reshape(shape)
    found = principal_components(h, 3)
    for call in range(6):
        rows = h[:, call].reshape(20, -1).astype("f8")
        oracle = PCA(3, svd_solver="full").fit(rows)
        own = found.directions[:, call].reshape(3, -1)
        signs = np.sign((own * oracle.components_).sum(1))[:, None]
        np.testing.assert_allclose(own * signs, oracle.components_, atol=1e-6)
        np.testing.assert_allclose(found.std[:, call] ** 2, oracle.explained_variance_, rtol=1e-6)
        np.testing.assert_allclose(
            found.share[:, call], oracle.explained_variance_ratio_, rtol=1e-6
        )
        np.testing.assert_allclose(found.mean[call].reshape(-1), oracle.mean_, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(found.scaled(1).reshape(6, -1), axis=1), found.std[1], rtol=1e-6
    )


def test_a_component_points_the_same_way_at_all_calls():
    rng = np.random.default_rng(0)
    direction, shares = rng.normal(size=40), rng.normal(size=(30, 1, 1))
    # It turns slowly, by so much in all that its first entry changes sign.
    turned = np.stack([np.roll(direction, 1) * i / 9 + direction * (1 - i / 9) for i in range(10)])
    h = shares * turned + 1e-3 * rng.normal(size=(30, 10, 40))
    (found,) = principal_components(h, 1).directions
    assert ((found[1:] * found[:-1]).sum(1) > 0.8).all()
    agreement = (found * turned).sum(1)
    assert (agreement > 0).all() or (agreement < 0).all()


def test_no_variance_has_no_direction():
    found = principal_components(np.ones((4, 2, 50), "f4"), 2)
    np.testing.assert_array_equal(found.directions, 0.0)
    np.testing.assert_array_equal(found.share, 0.0)


def test_mean_difference_leads_from_one_mean_to_the_other():
    h = np.random.default_rng(0).normal(size=(10, 2, 3)).astype("f4")
    labels = np.array([0, 1] * 5)
    moved = h[labels == 0].mean(0) + mean_difference(h, labels, 0, 1)
    np.testing.assert_allclose(moved, h[labels == 1].mean(0), atol=1e-6)
    with pytest.raises(ValueError, match="there are no samples of class 7 among 10"):
        mean_difference(h, labels, 0, 7)


def test_what_is_projected_off_leaves_nothing_in_common():
    rng = np.random.default_rng(0)
    direction, a, b = rng.normal(size=(3, 4, 5, 2))
    rest = projected_off(direction, a, b, 2 * a + b)  # the third is in the span of the others
    for other in (a, b):
        np.testing.assert_allclose((rest * other).sum((1, 2)), 0.0, atol=1e-10)
    np.testing.assert_allclose(projected_off(rest, a, b), rest, atol=1e-10)
    np.testing.assert_allclose(projected_off(direction, direction), 0.0, atol=1e-10)
    np.testing.assert_allclose(projected_off(direction, 0 * a), direction)


def test_random_directions_have_the_lengths_of_the_other_and_no_other_preference():
    like = np.random.default_rng(0).normal(size=(4, 6, 7))
    drawn = [random_direction(seed, like) for seed in range(2)]
    for one in drawn:
        np.testing.assert_allclose(
            np.linalg.norm(one.reshape(4, -1), axis=1), np.linalg.norm(like.reshape(4, -1), axis=1)
        )
    assert not np.allclose(*drawn)
    np.testing.assert_array_equal(drawn[0], random_direction(0, like))


def test_too_few_samples_and_what_is_not_finite_are_refused():
    h = np.zeros((4, 2, 50))
    with pytest.raises(
        ValueError, match="num_components must be at least 1 and below the 4 samples"
    ):
        principal_components(h, 4)
    with pytest.raises(ValueError, match=r"expected activations \[N, M, ...\], got shape \(4, 2\)"):
        principal_components(h[..., 0], 1)
    h[0, 1, 0] = np.nan
    with pytest.raises(ValueError, match="the activations of network call 1 are not finite"):
        principal_components(h, 1)
