"""Layers that look at whole batches, and layers whose scales start from data."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets
from genjax.families.base import init_network

KEY = jax.random.key(0)
ROWS = jax.random.normal(KEY, (6, 4))


def appended(layer, params, h):
    return layer.apply(params, h)[:, h.shape[1] :]


def test_each_row_is_compared_with_all_others():
    layer = nets.MinibatchDiscrimination(num_kernels=3, kernel_size=2)
    params = layer.init(KEY, ROWS)
    p = {name: np.asarray(value) for name, value in params["params"].items()}
    weights = p["kernel"] / np.linalg.norm(p["kernel"], axis=0)
    m = np.einsum("bf,fkc->bkc", ROWS, weights)
    expected = np.zeros((6, 3))
    for i in range(6):
        for j in set(range(6)) - {i}:
            expected[i] += np.exp(-np.exp(p["log_scale"]) * np.abs(m[i] - m[j]).sum(-1))
    found = appended(layer, params, ROWS)
    np.testing.assert_allclose(found, expected + p["bias"], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.apply(params, ROWS)[:, :4], ROWS)
    # On the rows that it was made with: numbers of mean 0, the nearest row at a distance of 2.
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-5)
    distances = np.abs(m[:, None] - m[None]).sum(-1) + np.diag(np.full(6, np.inf))[..., None]
    np.testing.assert_allclose(np.exp(p["log_scale"]) * distances.min(1).mean(0), 2.0, rtol=1e-4)


def test_equal_rows_count_each_other_and_permuted_rows_are_permuted():
    layer = nets.MinibatchDiscrimination(num_kernels=3, kernel_size=2)
    params = layer.init(KEY, ROWS)
    bias = params["params"]["bias"]
    equal = jnp.broadcast_to(ROWS[:1], (5, 4))
    np.testing.assert_allclose(appended(layer, params, equal) - bias, 4.0, rtol=1e-6)
    order = jnp.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(
        layer.apply(params, ROWS[order]), layer.apply(params, ROWS)[order], rtol=1e-5
    )
    slope = jax.grad(lambda h: jnp.sum(appended(layer, params, h)))(equal)
    assert np.isfinite(slope).all()
    # One row, or equal ones, say nothing of a scale.
    alone = layer.init(KEY, ROWS[:1])["params"]
    np.testing.assert_array_equal(alone["log_scale"], 0.0)
    np.testing.assert_array_equal(layer.init(KEY, equal)["params"]["log_scale"], 0.0)


@pytest.mark.parametrize(
    "critic",
    [
        nets.MLPCritic(4, 1, num_minibatch_kernels=2),
        nets.DCGANCritic(4, 4, num_minibatch_kernels=2),
    ],
    ids=["mlp", "dcgan"],
)
def test_critics_have_it_before_their_last_layer(critic):
    x = jax.random.normal(KEY, (3, 5) if isinstance(critic, nets.MLPCritic) else (3, 8, 8, 1))
    variables = critic.init(KEY, x)
    assert variables["params"]["minibatch"]["bias"].shape == (2,)
    scores = critic.apply(variables, x)
    assert not np.allclose(scores[:2], critic.apply(variables, x[:2]))


def test_a_dense_layer_of_weight_norm_starts_from_its_rows():
    layer = nets.WeightNormDense(3, init_scale=0.5)
    params = layer.init(KEY, ROWS)
    y = layer.apply(params, ROWS)
    np.testing.assert_allclose(y.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), 0.5, rtol=1e-4)
    # Longer weights are the same weights.
    longer = {"params": {**params["params"], "kernel": 3.0 * params["params"]["kernel"]}}
    np.testing.assert_allclose(layer.apply(longer, ROWS), y, rtol=1e-4, atol=1e-5)
    fixed = nets.WeightNormDense(3, learn_scale=False)
    slopes = jax.grad(lambda p: jnp.sum(jnp.square(fixed.apply(p, ROWS))))(params)["params"]
    assert not slopes["scale"].any() and slopes["kernel"].any() and slopes["bias"].any()


def test_the_noisy_classifier_adds_noise_in_training_only():
    net = nets.NoisyMLPClassifier(num_classes=3, hidden_sizes=(8, 5))
    x = jax.random.normal(KEY, (7, 2, 2, 1))
    variables = net.init(KEY, x)
    logits, features = net.apply(variables, x)
    assert logits.shape == (7, 3) and features.shape == (7, 5)
    np.testing.assert_array_equal(net.apply(variables, x)[0], logits)
    noisy = [net.apply(variables, x, rngs={"dropout": k})[0] for k in jax.random.split(KEY)]
    assert not np.allclose(noisy[0], logits) and not np.allclose(noisy[0], noisy[1])
    with pytest.raises(ValueError, match="of clean examples"):
        net.init(KEY, x, jnp.ones(7))
    with pytest.raises(ValueError, match="num_classes is None"):
        nets.NoisyMLPClassifier().init(KEY, x)
    noise = nets.GaussianNoise(0.5).apply({}, jnp.zeros(20000), rngs={"dropout": KEY})
    assert float(noise.std()) == pytest.approx(0.5, rel=0.03)


def test_a_generator_of_dense_layers_makes_images_with_batch_statistics():
    net = nets.MLPGenerator(
        (4, 4, 1), 8, 2, activation="softplus", norm="affine_batch", output="tanh"
    )
    z = jax.random.normal(KEY, (5, 3))
    variables = net.init(KEY, z)
    made, new = net.apply(variables, z, train=True, mutable=["batch_stats"])
    assert made.shape == (5, 4, 4, 1) and float(jnp.abs(made).max()) < 1.0
    before = variables["batch_stats"]["norm_0"]["norm"]["mean"]
    assert not np.allclose(new["batch_stats"]["norm_0"]["norm"]["mean"], before)


def test_maxout_takes_the_largest_of_five_pieces():
    net = nets.MLPCritic(4, 1, activation="maxout")
    variables = net.init(KEY, ROWS)
    p = variables["params"]
    assert p["dense_0"]["kernel"].shape == (4, 20)
    h = (ROWS @ p["dense_0"]["kernel"] + p["dense_0"]["bias"]).reshape(6, 4, 5).max(-1)
    expected = h @ p["head"]["dense"]["kernel"][:, 0] + p["head"]["dense"]["bias"]
    np.testing.assert_allclose(net.apply(variables, ROWS), expected, rtol=1e-4, atol=1e-6)


def test_sides_may_be_halved_to_odd_ones():
    net = nets.DCGANGenerator((28, 28, 3), 64, 8, kernel_size=3, num_doublings=3)
    critic = nets.DCGANCritic(8, 2, kernel_size=3, num_halvings=3)
    z, x = jnp.zeros((2, 5)), jnp.zeros((2, 28, 28, 3))
    of_g = jax.eval_shape(lambda: net.init_with_output(KEY, z, train=True))
    of_c = jax.eval_shape(lambda: critic.init_with_output(KEY, x, train=True))
    assert of_g[0].shape == x.shape
    params = of_g[1]["params"]
    assert params["dense"]["kernel"].shape == (5, 4 * 4 * 64)
    assert [params[f"conv_{i}"]["kernel"].shape for i in range(3)] == [
        (3, 3, 64, 32), (3, 3, 32, 16), (3, 3, 16, 8)
    ]  # fmt: skip
    assert of_c[1]["params"]["head"]["dense"]["kernel"].shape == (4 * 4 * 8, 1)


def test_parameters_that_start_from_data_see_it_as_training_does():
    net = nets.NoisyMLPClassifier(3, (200,), unit_interval=False, input_noise=2.0)
    x = jax.random.normal(KEY, (512, 5))
    params, _ = init_network(net, KEY, x)

    def hidden(**rngs):
        kept = dict(capture_intermediates=True, mutable=["intermediates"])
        _, found = net.apply({"params": params}, x, rngs=rngs, **kept)
        return found["intermediates"]["dense_0"]["__call__"][0]

    assert float(jnp.std(hidden(dropout=jax.random.key(1)))) == pytest.approx(1.0, abs=0.05)
    assert float(jnp.std(hidden())) == pytest.approx(1 / math.sqrt(5), abs=0.05)  # of 1 + 2^2


def test_outputs_of_normalised_weights_are_of_their_directions_alone():
    net = nets.MLPGenerator((4,), hidden_size=8, num_layers=1, output_weight_norm=True)
    latent = jax.random.normal(KEY, (6, 3))
    params = net.init(KEY, latent)["params"]
    rows = net.apply({"params": params}, latent)
    assert rows.shape == (6, 4)
    last = params["dense_out"]
    larger = {**params, "dense_out": {**last, "kernel": 7.0 * last["kernel"]}}
    np.testing.assert_allclose(net.apply({"params": larger}, latent), rows, rtol=1e-5, atol=1e-6)
    scaled = {**params, "dense_out": {**last, "scale": 2.0 * last["scale"]}}
    away = net.apply({"params": scaled}, latent) - last["bias"]
    np.testing.assert_allclose(away, 2.0 * (rows - last["bias"]), rtol=1e-5, atol=1e-6)
