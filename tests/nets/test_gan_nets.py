import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets
from genjax.nets.dcgan import num_doublings

KEY = jax.random.key(0)


def count(net, *args):
    shapes = jax.eval_shape(lambda: net.init(KEY, *args))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_published_sizes():
    z, x, label = jnp.zeros((1, 128)), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1, jnp.int32)
    # 3,812,355 is what StudioGAN's log of the same network prints; the ResNets' 4.28 M, 1.05 M and
    # 4.30 M are its tables' (1.06 M for the critic).
    assert count(nets.DCGANGenerator((32, 32, 3)), z) == 3_812_355
    assert count(nets.ResNetGenerator((32, 32, 3)), z) == pytest.approx(4.28e6, rel=2e-3)
    assert count(nets.ResNetCritic(), x) == pytest.approx(1.06e6, rel=1e-2)
    conditional = nets.ResNetGenerator((32, 32, 3), num_classes=10)
    assert count(conditional, z, label) == pytest.approx(4.30e6, rel=3e-3)


@pytest.mark.parametrize("side, doublings", [(8, 1), (28, 2), (32, 3), (64, 4), (56, 3)])
def test_image_sizes(side, doublings):
    assert num_doublings((side, side, 3)) == doublings
    shape = (side, side, 3)
    for generator, critic in [
        (nets.DCGANGenerator(shape), nets.DCGANCritic()),
        (nets.ResNetGenerator(shape, channels=8), nets.ResNetCritic(channels=8)),
    ]:
        z, x = jnp.zeros((2, 16)), jnp.zeros((2, *shape))
        (made, _), (scores, _) = (
            jax.eval_shape(functools.partial(net.init_with_output, train=True), KEY, rows)
            for net, rows in [(generator, z), (critic, x)]
        )
        assert made.shape == x.shape and made.dtype == jnp.float32
        assert scores.shape == (2,)


@pytest.mark.parametrize("shape", [(30, 30, 3), (32, 28, 1), (4, 4, 1), (32, 32)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match="expected"):
        num_doublings(shape)


@pytest.mark.parametrize("critic", [
    nets.MLPCritic(8, 2, spectral_norm=True),
    nets.DCGANCritic(8, 4, norm="none", spectral_norm=True),
    nets.ResNetCritic(8, spectral_norm=True),
], ids=["mlp", "dcgan", "resnet"])  # fmt: skip
@pytest.mark.slow
def test_spectral_normalisation_reaches_every_layer_and_converges(critic):
    x = jax.random.normal(KEY, (3, 2) if isinstance(critic, nets.MLPCritic) else (3, 16, 16, 1))
    variables = jax.jit(lambda k: critic.init(k, x))(KEY)
    # At fixed weights, the power iteration finds the largest singular value of each.
    step = jax.jit(lambda v: critic.apply(v, x, train=True, mutable=["spectral_stats"])[1])
    stats = variables["spectral_stats"]
    for _ in range(300):
        stats = step({"params": variables["params"], "spectral_stats": stats})["spectral_stats"]
    found = {
        "/".join(str(k.key) for k in path): float(leaf)
        for path, leaf in jax.tree.leaves_with_path(stats)
        if "sigma" in path[-1].key
    }
    kernels = {
        "/".join(str(k.key) for k in path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(variables["params"])
        if leaf.ndim > 1
    }
    assert len(found) == len(kernels)
    expected = sorted(np.linalg.norm(k.reshape(-1, k.shape[-1]), 2) for k in kernels.values())
    np.testing.assert_allclose(sorted(found.values()), expected, rtol=1e-3)


@pytest.mark.slow
def test_spectral_norm_is_one_power_iteration_with_gradient_through_sigma():
    critic = nets.MLPCritic(4, 1, spectral_norm=True)
    x = jax.random.normal(KEY, (3, 2))
    variables = critic.init(KEY, x)
    stats = variables["spectral_stats"]

    def by_hand(params):
        h = x
        for layer, u in [
            (params["dense_0"], stats["dense_0_norm"]["dense_0/kernel/u"]),
            (params["head"]["dense"], stats["head"]["dense_norm"]["dense/kernel/u"]),
        ]:
            w = layer["kernel"]
            v = jax.lax.stop_gradient(u @ w.T / jnp.linalg.norm(u @ w.T))
            u = jax.lax.stop_gradient(v @ w / jnp.linalg.norm(v @ w))
            h = h @ (w / (v @ w @ u.T)[0, 0]) + layer["bias"]
            h = jax.nn.leaky_relu(h, 0.2) if layer is params["dense_0"] else h
        return h[:, 0]

    def ours(params):
        return critic.apply({"params": params, "spectral_stats": stats}, x)

    np.testing.assert_allclose(ours(variables["params"]), by_hand(variables["params"]), rtol=1e-5)
    actual, expected = (
        jax.tree.leaves(jax.grad(lambda p, f=f: jnp.sum(f(p) ** 2))(variables["params"]))
        for f in (ours, by_hand)
    )
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_critics_without_batch_normalisation_see_rows_one_by_one():
    for critic in (nets.DCGANCritic(8, 4, norm="layer"), nets.ResNetCritic(8, norm="layer")):
        x = jax.random.normal(KEY, (4, 8, 8, 1))
        variables = jax.jit(critic.init)(KEY, x)
        apply = jax.jit(lambda v, x, c=critic: c.apply(v, x, train=True))
        both, one = apply(variables, x), apply(variables, x[:1])
        np.testing.assert_allclose(both[:1], one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("conditioning", ["concatenation", "embedding", "projection"])
@pytest.mark.parametrize("points", [True, False])
def test_conditional_critics_depend_on_the_label(conditioning, points):
    if points:
        net, x = nets.MLPCritic(8, 1, num_classes=5, conditioning=conditioning), jnp.ones((2, 2))
    else:
        net = nets.DCGANCritic(8, 4, num_classes=5, conditioning=conditioning)
        x = jnp.ones((2, 8, 8, 1))
    label = jnp.array([1, 3])
    variables = jax.jit(net.init)(KEY, x, label)
    out = jax.jit(net.apply)(variables, x, label)
    assert out.shape == (2,) and float(jnp.abs(out[0] - out[1])) > 1e-5
    with pytest.raises(ValueError, match="the label is missing"):
        net.apply(variables, x)
    with pytest.raises(ValueError, match="the label is given"):
        net.clone(num_classes=None).init(KEY, x, label)


def test_several_outputs_and_no_projection_of_them():
    x = jnp.ones((2, 2))
    net = nets.MLPCritic(8, 1, num_outputs=3)
    assert net.init_with_output(KEY, x)[0].shape == (2, 3)
    with pytest.raises(ValueError, match="one output"):
        net.clone(num_classes=5).init(KEY, x, jnp.array([0, 1]))


def test_batch_norm_has_the_published_momentum_and_class_gains():
    from genjax.nets.conditioning import BatchNorm

    net = BatchNorm(num_classes=3)
    x, label = jax.random.normal(KEY, (64, 4)) * 3 + 1, jnp.arange(64) % 3
    variables = net.init(KEY, x, label, train=True)
    gain = {"embedding": jnp.arange(12.0).reshape(3, 4)}
    params = {**variables["params"], "gain": gain}
    y, new = net.apply(
        {**variables, "params": params}, x, label, train=True, mutable=["batch_stats"]
    )
    normal = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(y, normal * (1 + gain["embedding"][label]), rtol=1e-3, atol=1e-3)
    moved = new["batch_stats"]["norm"]["mean"]
    np.testing.assert_allclose(moved, 0.1 * x.mean(0), rtol=1e-4, atol=1e-6)


def test_bfloat16_keeps_parameters_outputs_and_statistics_in_float32():
    small = dict(channels=8, dtype="bfloat16")
    z, x = jnp.zeros((2, 4)), jnp.zeros((2, 8, 8, 1))
    for net, rows in [
        (nets.DCGANGenerator((8, 8, 1), **small), z),
        (nets.ResNetGenerator((8, 8, 1), **small), z),
        (nets.DCGANCritic(**small), x),
        (nets.ResNetCritic(**small), x),
    ]:
        y, variables = jax.eval_shape(lambda n=net, r=rows: n.init_with_output(KEY, r, train=True))
        assert y.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.slow
def test_classifier_features_feed_its_logits():
    net = nets.ConvClassifier(num_classes=10, channels=8, num_features=16)
    x = jax.random.normal(KEY, (2, 8, 8, 1))
    (logits, features), variables = net.init_with_output(KEY, x)
    assert logits.shape == (2, 10) and features.shape == (2, 16)
    last = variables["params"]["logits"]
    np.testing.assert_allclose(features @ last["kernel"] + last["bias"], logits, rtol=1e-5)
    with pytest.raises(ValueError, match="cannot be halved"):
        net.clone(num_halvings=4).init(KEY, x)
