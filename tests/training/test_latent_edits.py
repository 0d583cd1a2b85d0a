"""Arithmetic of latents: what a direction is, and what an edit leaves alone."""

import jax.numpy as jnp
import numpy as np
import pytest

import genjax
from genjax.training.edits import EditError
from genjax.training.latent_edits import Attribute, Flat, attribute_direction


def test_a_direction_leads_from_little_to_much_of_an_attribute():
    rng = np.random.default_rng(0)
    values = rng.normal(size=3000)
    vectors = rng.normal(size=(3000, 4)) + values[:, None] * np.array([0.0, 2.0, 0.0, -1.0])
    found = attribute_direction(vectors, values)
    # Means of the outer thirds of a normal are 1.0908 from its centre.
    np.testing.assert_allclose(found, 2 * 1.0908 * np.array([0, 2, 0, -1]), atol=0.15)


def test_a_direction_within_classes_does_not_tell_classes_apart():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=3000)
    values = rng.normal(size=3000) + 3.0 * labels  # one class has more of it
    own = values - 3.0 * labels
    vectors = np.stack([own, 5.0 * labels], axis=1) + 0.1 * rng.normal(size=(3000, 2))
    mixed, balanced = (attribute_direction(vectors, values, of) for of in (None, labels))
    assert (
        mixed[1] > 3.0 and abs(balanced[1]) < 0.05 and balanced[0] == pytest.approx(2.18, abs=0.1)
    )
    binary = attribute_direction(vectors, labels)
    np.testing.assert_allclose(binary, [0.0, 5.0], atol=0.1)
    for rare in (np.arange(3000) % 10 == 3, np.arange(3000) % 10 != 3):  # one of ten, and nine
        vectors[:, 0] = rare * 2.0
        found = attribute_direction(vectors, rare)
        np.testing.assert_allclose(found[0], 2.0, atol=1e-6)
    with pytest.raises(ValueError, match="the same in all rows"):
        attribute_direction(vectors, np.ones(3000))
    nothing = np.where(np.arange(3000) == 0, np.nan, values)  # an empty picture has no slant
    assert np.isfinite(attribute_direction(vectors, nothing)).all()


def test_latents_of_any_structure_are_vectors_and_codes_are_not():
    tree = {"a": np.arange(12.0).reshape(2, 3, 2), "b": np.ones((2, 1))}
    flat = Flat.of(tree)
    assert flat.vectors.shape == (2, 7)
    back = flat.unflatten(flat.vectors)
    np.testing.assert_array_equal(back["a"], tree["a"])
    np.testing.assert_array_equal(back["b"], tree["b"])
    with pytest.raises(ValueError, match="codes, which cannot be added"):
        Flat.of(jnp.zeros((2, 4), jnp.int32))


def test_values_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="the attribute itself"):
        Attribute(apart_from=("thickness",))
    with pytest.raises(ValueError, match="at least 2 different numbers"):
        Attribute(strengths=(1.0,))


@pytest.mark.slow
def test_edits_of_a_run_leave_rows_alone_at_strength_0(tmp_path):
    config = dict(
        data=dict(name="digits", batch_size=64),
        model=dict(encoder=dict(name="mlp"), decoder=dict(name="mlp")),
        family=dict(name="vae", latent_size=8, observation=dict(name="discretized_logistic")),
        optimizer=dict(name="adam", learning_rate=2e-3, b1=0.9),
        train=dict(num_steps=300, log_every=100, eval_every=0, sample_every=0),
        edit=dict(name="attribute", attribute="thickness", apart_from=("slant",)),
    )
    run = genjax.Run(genjax.build(config), tmp_path / "run")
    run.train()
    numbers = run.draw_edit()
    assert numbers["edit/attribute/thickness_rank"] > 0.8
    with np.load(next((tmp_path / "run" / "edits").glob("*attribute.npz"))) as file:
        x, rows = file["x"], file["rows"]
    np.testing.assert_array_equal(rows[2], run.reconstruct(x))
    config["edit"] = dict(name="latent_map", num_side=4)
    again = genjax.Run(genjax.build(config), tmp_path / "run")
    assert 0.0 < again.draw_edit()["edit/latent_map/share_1"] < 1.0
    for edit, message in (
        (dict(attribute="colour"), "unknown attribute 'colour'; valid: label, slant, thickness"),
        (dict(attribute="label"), "needs a value"),
    ):
        config["edit"] = dict(name="attribute", **edit)
        with pytest.raises(EditError, match=message):
            genjax.Run(genjax.build(config), tmp_path / "run").draw_edit()
