import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets

KEY = jax.random.key(0)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_depth_to_space_is_a_bijection_of_blocks(factor):
    x = jnp.arange(2.0 * 3 * 4 * factor**2 * 5).reshape(2, 3, 4, -1)
    y = nets.depth_to_space(x, factor)
    assert y.shape == (2, 3 * factor, 4 * factor, 5)
    assert len(np.unique(y)) == x.size
    # Back: the pixels of each block, row by row, are the channels again.
    blocks = np.asarray(y).reshape(2, 3, factor, 4, factor, 5).transpose(0, 1, 3, 2, 4, 5)
    np.testing.assert_array_equal(blocks.reshape(x.shape), x)
    with pytest.raises(ValueError, match="must be a multiple of 16"):
        nets.depth_to_space(x[..., :7], 4)


def test_an_upsampling_starts_as_repeating_and_makes_no_checkerboard():
    conv = nets.Conv(4 * 3, (3, 3), kernel_init=nets.icnr(2))
    x = jax.random.normal(KEY, (2, 5, 6, 4))
    variables = conv.init(jax.random.key(1), x)
    made = nets.depth_to_space(conv.apply(variables, x), 2)
    np.testing.assert_array_equal(made, made[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))
    kernel = variables["params"]["kernel"]
    assert len(np.unique(kernel)) == kernel.size // 4
    # Each pixel's kernel has the variance of one that is drawn for it alone.
    wide = nets.icnr(2)(KEY, (3, 3, 64, 256), jnp.float32)
    np.testing.assert_allclose(wide.var(), 1 / (9 * 64), rtol=0.05)


SMALL = dict(event_shape=(8, 8, 3), channels=4, num_blocks=1)


@pytest.mark.parametrize("net", [nets.SRResNet(**SMALL), nets.RRDBNet(**SMALL, growth=2)])
def test_networks_enlarge_by_their_factor(net):
    x = jax.random.normal(KEY, (2, 2, 2, 3))
    variables = net.init(KEY, x)
    assert net.apply(variables, x).shape == (2, 8, 8, 3)
    with pytest.raises(ValueError, match="factor must be 2, 4, 8"):
        net.clone(factor=3).init(KEY, x)


def test_the_residual_scale_of_rrdb_is_what_its_blocks_add():
    def made(scale, blocks):
        net = nets.RRDBNet(**{**SMALL, "num_blocks": blocks}, growth=2, residual_scale=scale)
        x = jax.random.normal(KEY, (1, 2, 2, 3))
        return net.apply(net.init(KEY, x), x)

    # Without it the blocks are the identity, however many there are.
    np.testing.assert_array_equal(made(0.0, 0), made(0.0, 2))
    assert (made(0.2, 2) != made(0.0, 2)).any()


def test_srresnet_has_batch_statistics_and_rrdb_none():
    x = jnp.zeros((2, 2, 2, 3))
    assert "batch_stats" in nets.SRResNet(**SMALL).init(KEY, x)
    assert set(nets.RRDBNet(**SMALL, growth=2).init(KEY, x)) == {"params"}


def test_a_frozen_network_shows_the_output_of_a_layer():
    net = nets.ConvClassifier(num_classes=3, channels=8, num_features=4)
    x = jax.random.normal(KEY, (2, 8, 8, 1))
    trained = net.init(jax.random.key(2), x)
    frozen = nets.Frozen(init_fn=net.init, apply_fn=net.apply)
    held = {"frozen": {"variables": trained}}
    _, kept = net.apply(trained, x, capture_intermediates=True, mutable=["intermediates"])
    expected = kept["intermediates"]["conv_1_0"]["__call__"][0]
    np.testing.assert_array_equal(frozen.apply(held, x, layer="conv_1_0"), expected)
    np.testing.assert_array_equal(frozen.apply(held, x)[0], net.apply(trained, x)[0])
    with pytest.raises(ValueError, match="0 layers of the network are called 'conv_9', expected"):
        frozen.apply(held, x, layer="conv_9")
