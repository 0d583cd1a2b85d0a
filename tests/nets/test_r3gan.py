import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from genjax import nets
from genjax.nets import r3gan

KEY = jax.random.key(0)
SMALL = dict(channels=16, min_channels=8, num_blocks=1, group_size=8)


def test_resampling_is_the_published_filter():
    # [1, 2, 1] after repeating pixels; scipy's upsampling with filter, axis by axis.
    x = np.asarray(jax.random.normal(KEY, (2, 6, 4, 3)), np.float64)
    taps = np.convolve([1, 2, 1], [1, 1]) / 8
    up, down = x, x
    for axis in (1, 2):
        size = x.shape[axis]
        up = scipy.signal.upfirdn(2 * taps, up, up=2, axis=axis)
        up = np.take(up, np.arange(1, 2 * size + 1), axis)
        down = scipy.signal.upfirdn(taps, down, axis=axis)
        down = np.take(down, np.arange(2, size + 2, 2), axis)
    np.testing.assert_allclose(r3gan.upsample(jnp.asarray(x, jnp.float32)), up, atol=1e-5)
    np.testing.assert_allclose(r3gan.downsample(jnp.asarray(x, jnp.float32)), down, atol=1e-5)


def test_published_networks_have_their_published_parts():
    generator = nets.R3GANGenerator((32, 32, 3))
    made, variables = jax.eval_shape(lambda: generator.init_with_output(KEY, jnp.zeros((1, 64))))
    assert made.shape == (1, 32, 32, 3)
    params = variables["params"]
    assert params["basis"].shape == (4, 4, 768)
    block = params["block_3_1"]
    # 96 groups of 16 channels.
    assert block["mix"]["kernel"].shape == (3, 3, 16, 1536)
    assert block["expand"]["kernel"].shape == (1, 1, 768, 1536)
    per_block = 2 * 768 * 1536 + 9 * 16 * 1536 + 2 * 1536
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == 8 * per_block + 16 * 768 + 64 * 768 + 768 * 3
    critic = jax.eval_shape(lambda: nets.R3GANCritic().init(KEY, jnp.zeros((1, 32, 32, 3))))
    count = sum(leaf.size for leaf in jax.tree.leaves(critic["params"]))
    assert count == 8 * per_block + 16 * 768 + 768 + 768 * 3


def test_blocks_start_as_the_identity_and_weights_with_their_gains():
    generator = nets.R3GANGenerator((8, 8, 1), **{**SMALL, "channels": 64, "min_channels": 64})
    z = jax.random.normal(KEY, (64, 32))
    images, variables = jax.jit(generator.init_with_output)(KEY, z)
    params = variables["params"]
    assert not np.any(params["block_0_0"]["contract"]["kernel"])
    # sqrt(2 / 1.04) / L^(1/4) over the root of the inputs; 2 blocks.
    gain = np.sqrt(2 / 1.04) * 2**-0.25
    for name, inputs in (("expand", 64), ("mix", 72)):
        found = np.std(params["block_1_0"][name]["kernel"])
        assert found == pytest.approx(gain / np.sqrt(inputs), rel=0.05)
    scaled = z @ params["scale"]["kernel"]
    by_hand = params["basis"] * scaled[:, None, None]
    by_hand = r3gan.upsample(by_hand) @ params["conv_out"]["kernel"][0, 0]
    np.testing.assert_allclose(images, by_hand, atol=1e-4)


@pytest.mark.parametrize("num_classes", [None, 10])
def test_rows_are_seen_one_by_one_and_by_their_label(num_classes):
    small = {**SMALL, "num_classes": num_classes}
    generator, critic = nets.R3GANGenerator((8, 8, 1), **small), nets.R3GANCritic(**small)
    z = jax.random.normal(KEY, (4, 6))
    label = None if num_classes is None else jnp.arange(4)
    images, _ = jax.jit(generator.init_with_output)(KEY, z, label)
    scores, variables = jax.jit(critic.init_with_output)(KEY, images, label)
    assert images.shape == (4, 8, 8, 1) and scores.shape == (4,)
    alone = critic.apply(variables, images[:1], None if label is None else label[:1])
    np.testing.assert_allclose(scores[:1], alone, rtol=1e-4, atol=1e-6)
    if label is not None:
        other = critic.apply(variables, images, label + 1)
        assert np.abs(other - scores).min() > 0


def test_groups_that_do_not_fit_are_refused():
    generator = nets.R3GANGenerator((8, 8, 1), **{**SMALL, "group_size": 7})
    with pytest.raises(ValueError, match=r"group_size \(7\) must divide"):
        jax.eval_shape(lambda: generator.init(KEY, jnp.zeros((1, 4))))
    critic = nets.R3GANCritic(**SMALL, num_classes=3, num_outputs=2)
    with pytest.raises(ValueError, match="one output"):
        jax.eval_shape(lambda: critic.init(KEY, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1, jnp.int32)))
