"""Perceptrons that look at rows, alone or with latents: how they start and what they see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets

KEY = jax.random.key(0)
X = jax.random.uniform(KEY, (6, 4, 4, 1), minval=-1.0)
Z = jax.random.normal(KEY, (6, 3))


def biases(params):
    return [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "bias"
    ]


def test_there_are_no_biases_where_batch_normalisation_takes_them_away():
    critic = nets.JointMLPCritic(5, 3)
    assert biases(critic.init(KEY, X, Z)["params"]) == [
        "['dense_0']['bias']",
        "['dense_out']['bias']",
    ]
    assert not biases(critic.clone(use_bias=False).init(KEY, X, Z)["params"])
    assert len(biases(critic.clone(norm="layer").init(KEY, X, Z)["params"])) > 4
    encoder = nets.JointMLPEncoder(5, 3)
    assert biases(encoder.init(KEY, X)["params"]) == ["['dense_0']['bias']"]
    assert not biases(encoder.clone(use_bias=False).init(KEY, X)["params"])
    generator = nets.MLPGenerator((4,), 8, 2, norm="batch")
    assert biases(generator.init(KEY, Z)["params"]) == ["['dense_out']['bias']"]
    assert not biases(generator.clone(output_bias=False).init(KEY, Z)["params"])
    assert len(biases(generator.clone(norm="none").init(KEY, Z)["params"])) == 3


@pytest.mark.parametrize("net, args", [
    (nets.JointMLPEncoder(5, 2), (X,)), (nets.JointMLPCritic(5, 2), (X, Z)),
], ids=["encoder", "critic"])  # fmt: skip
def test_images_may_be_seen_in_the_unit_interval(net, args):
    params = net.init(KEY, *args)
    seen = net.clone(unit_interval=True).apply(params, *args)
    np.testing.assert_allclose(seen, net.apply(params, (args[0] + 1) / 2, *args[1:]), rtol=1e-5)


def test_latents_enter_from_a_layer_on_and_weights_start_with_a_deviation():
    critic = nets.JointMLPCritic(200, 3, norm="none", latent_from=1, kernel_std=0.02)
    params = critic.init(KEY, X, Z)["params"]
    assert [name for name in params if name.startswith("latent")] == ["latent_1", "latent_2"]
    for layer in jax.tree.leaves(params, is_leaf=lambda p: "kernel" in p):
        if "kernel" in layer and layer["kernel"].size > 500:
            assert float(layer["kernel"].std()) == pytest.approx(0.02, rel=0.1)
    assert not np.allclose(
        critic.apply({"params": params}, X, Z), critic.apply({"params": params}, X, -Z)
    )


def test_a_critic_may_start_with_nothing_to_say():
    critic = nets.JointMLPCritic(5, 2, zero_output=True)
    params = critic.init(KEY, X, Z)
    np.testing.assert_array_equal(critic.apply(params, X, Z), jnp.zeros(len(X)))
    assert float(jnp.abs(params["params"]["dense_1"]["kernel"]).min()) > 0


def test_grey_levels_are_spread_over_their_range():
    z = 5.0 * Z
    net = nets.MLPGenerator((4,), 8, 1)
    params = net.init(KEY, z)
    y = net.apply(params, z)
    for output, expected in {
        "tanh": jnp.tanh(y),
        "sigmoid": jnp.tanh(y / 2),
        "softplus": 2 * jnp.log1p(jnp.exp(y)) - 1,
    }.items():
        found = net.clone(output=output).apply(params, z)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
