"""The forms in which models of embeddings see them."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from genjax.families.embedding_forms import PrincipalCodes, Scaled, Standardized

RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(500, 6)) @ RNG.normal(size=(6, 6)) + 1.0
VECTORS = (MIXED / np.linalg.norm(MIXED, axis=1, keepdims=True)).astype(np.float32)


def test_scaled_vectors_have_entries_of_unit_size_and_come_back():
    form = Scaled()
    seen = form.of_vectors({}, jnp.asarray(VECTORS))
    np.testing.assert_allclose(jnp.mean(seen**2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(form.to_vectors({}, seen), VECTORS, rtol=1e-5)
    assert form.kept(6) == {} == form.measured(VECTORS)


def test_standardised_entries_have_mean_zero_and_variance_one_and_come_back():
    form = Standardized()
    kept = form.measured(VECTORS)
    seen = np.asarray(form.of_vectors(kept, jnp.asarray(VECTORS)))
    np.testing.assert_allclose(seen.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=0), 1.0, rtol=1e-4)
    np.testing.assert_allclose(form.to_vectors(kept, jnp.asarray(seen)), VECTORS, atol=1e-6)
    with pytest.raises(ValueError, match=r"entries of vectors do not vary: \[2\]"):
        form.measured(VECTORS * np.array([1, 1, 0, 1, 1, 1]))


def test_codes_are_buckets_of_the_components_of_scikit_learn():
    form = PrincipalCodes(num_components=4, num_levels=50)
    kept = form.measured(VECTORS)
    theirs = PCA(4, svd_solver="full").fit(VECTORS.astype(np.float64))
    signs = np.sign(np.sum(kept["directions"] * theirs.components_, axis=1))
    np.testing.assert_allclose(kept["directions"] * signs[:, None], theirs.components_, atol=1e-5)
    np.testing.assert_allclose(kept["mean"], theirs.mean_, atol=1e-6)
    codes = np.asarray(form.of_vectors(kept, jnp.asarray(VECTORS)))
    assert codes.shape == (500, 4) and codes.dtype == np.int32
    assert (codes.min(axis=0) == 0).all() and (codes.max(axis=0) == 49).all()
    # The widest come first, and a code is in the middle of its bucket.
    values = theirs.transform(VECTORS) * signs
    assert (np.diff(values.std(axis=0)) < 0.0).all()
    back = np.asarray(form.to_vectors(kept, jnp.asarray(codes)))
    again = theirs.transform(back) * signs
    width = (values.max(axis=0) - values.min(axis=0)) / 50
    assert (np.abs(again - values) <= 0.5001 * width + 1e-5).all()
    # What components beyond the last say is all that is lost but for that.
    rest = theirs.inverse_transform(theirs.transform(VECTORS))
    assert np.abs(back - rest).max() < np.linalg.norm(width)


def test_values_out_of_range_are_in_the_buckets_at_the_ends():
    form = PrincipalCodes(num_components=1, num_levels=10)
    kept = form.measured(VECTORS)
    far = kept["mean"] + np.array([[-100.0], [100.0]]) * kept["directions"]
    np.testing.assert_array_equal(form.of_vectors(kept, jnp.asarray(far)), [[0], [9]])


def test_before_they_are_measured_shapes_are_those_of_what_is():
    for form in (Standardized(), PrincipalCodes(num_components=3)):
        empty, found = form.kept(6), form.measured(VECTORS)
        assert empty.keys() == found.keys()
        for name, array in empty.items():
            assert array.shape == found[name].shape and array.dtype == found[name].dtype
        seen = form.of_vectors(empty, jnp.zeros((2, 6)))
        assert seen.shape == (2, *form.event_shape(6)) and np.isfinite(seen).all()


def test_codes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected num_components of at least 1 and num_levels"):
        PrincipalCodes(num_levels=1)
    with pytest.raises(ValueError, match="num_components 9 is more than the 6 entries"):
        PrincipalCodes(num_components=9).event_shape(6)
    flat = np.zeros((50, 6), np.float32)
    flat[:, 0] = RNG.normal(size=50)
    with pytest.raises(ValueError, match="50 vectors vary in 1 directions only: take fewer"):
        PrincipalCodes(num_components=2).measured(flat)
