"""Grey levels seen as bits: with their probabilities, and the same whenever they have to be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import genjax
from genjax import families, nets
from genjax.config import ConfigError
from genjax.families.binarized import Binarization

SHAPE = (4, 4, 1)
KEY = jax.random.key(0)


def view(method, **kwargs):
    return Binarization(num_levels=17, event_shape=SHAPE, method=method, **kwargs)


def rows(count=6, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(17, size=(count, *SHAPE)), jnp.uint8)


def bits(method, x, key=KEY, **features):
    return np.asarray(view(method).encode({}, {"x": x, **features}, key)["x"])


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_a_level_is_the_probability_of_a_one(method):
    level = jnp.asarray([0, 4, 8, 16], jnp.uint8)
    x = jnp.broadcast_to(level[None, None, :, None], (4000, *SHAPE))
    if method == "static":  # a function of the content: other rows are other draws
        x = x.at[:, 0, 0, 0].set(0).at[:, 0, :, 0].set(rows(4000)[:, 0, :, 0])
    found = bits(method, x)
    assert set(np.unique(found)) == {0, 1} and found.dtype == np.uint8
    share = found[:, 1:].mean((0, 1, 3))
    np.testing.assert_allclose(share, [0.0, 0.25, 0.5, 1.0], atol=0.03)


def test_dynamic_bits_are_new_in_each_step_and_those_of_the_position_in_evaluation():
    x, index = rows(), jnp.arange(6)
    assert (bits("dynamic", x) != bits("dynamic", x, jax.random.key(1))).any()
    whole = bits("dynamic", x, index=index)
    np.testing.assert_array_equal(bits("dynamic", x[3:], index=index[3:]), whole[3:])
    assert (bits("dynamic", x, jax.random.key(1), index=index) != whole).any()


def test_static_bits_depend_on_the_content_alone():
    x = rows()
    whole = bits("static", x)
    np.testing.assert_array_equal(bits("static", x[::-1], jax.random.key(5)), whole[::-1])
    several = bits("static", x.reshape(2, 3, *SHAPE))  # the batches of a step
    np.testing.assert_array_equal(several.reshape(whole.shape), whole)
    same = bits("static", jnp.broadcast_to(x[:1], x.shape).at[1, 0, 0, 0].add(1))
    assert (same[0] == same[2]).all() and (same[0] != same[1]).any()


def test_thresholds_are_the_middle_of_the_range():
    x = jnp.arange(17, dtype=jnp.uint8)[:, None, None, None] * jnp.ones((1, *SHAPE), jnp.uint8)
    assert bits("threshold", x)[:, 0, 0, 0].tolist() == [0] * 9 + [1] * 8


def test_what_a_family_makes_is_black_and_white():
    family = families.binarized(
        families.vae(
            encoder=nets.MLPEncoder(hidden_size=8, num_layers=1),
            decoder=nets.MLPDecoder(hidden_size=8, num_layers=1),
            observation=families.Bernoulli(),
            optimizer=optax.adam(1e-3),
            event_shape=SHAPE,
            num_levels=2,
            latent_size=2,
        ),
        17,
        SHAPE,
    )
    batch = {"x": rows(), "index": jnp.arange(6)}
    state = jax.jit(family.init)(KEY, batch)
    state, metrics = jax.jit(family.train_step)(state, {"x": batch["x"]}, KEY)
    assert np.isfinite(float(metrics["loss"]))
    drawn = jax.jit(family.sample)(state, KEY, batch).rows
    assert set(np.unique(drawn)) == {0, 16} and drawn.dtype == jnp.uint8
    back = family.decode(state, family.encode(state, batch, KEY), batch)
    assert set(np.unique(back)) <= {0, 16}
    # About 16 bits, each of about ln 2 nats.
    assert float(family.eval_step(state, batch, KEY)["elbo"].mean()) == pytest.approx(11.1, abs=4.0)
    assert family.eval_protocol["data"].startswith("binarized anew")


def config(**data):
    return dict(
        data=dict(batch_size=16, **data),
        model={part: dict(name="mlp", hidden_size=8) for part in ("encoder", "decoder")},
        family=dict(name="vae", latent_size=2, observation=dict(name="bernoulli")),
        optimizer=dict(name="adam"),
        train=dict(num_steps=2),
    )


def test_a_config_asks_for_bits():
    experiment = genjax.build(config(name="digits", binarize="static"))
    assert experiment.family.eval_protocol["data"].startswith("binarized once")


@pytest.mark.parametrize(
    "data, message",
    [
        (dict(name="digits"), "the data has 17 levels"),
        (dict(name="digits", binarize="otsu"), "data.binarize must be"),
        (dict(name="two_moons", binarize="static"), "bits are drawn of grey levels"),
    ],
)
def test_what_is_not_binary_or_cannot_be_made_so_is_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        genjax.build(config(**data))
