import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import nets

KEY = jax.random.key(0)


def size_of(net, *shape):
    made = jax.eval_shape(lambda key: net.init(key, jnp.zeros(shape)), KEY)
    return sum(leaf.size for leaf in jax.tree.leaves(made["params"]))


@pytest.mark.parametrize(
    "net, channels, millions",
    [
        (nets.UNetTranslator((256, 256, 3), num_halvings=8, norm="batch"), 3, 54.414),
        (nets.ResNetTranslator((256, 256, 3)), 3, 11.378),
        (nets.PatchCritic(norm="batch"), 6, 2.769),
        (nets.PatchCritic(), 3, 2.765),
    ],
)
def test_networks_have_their_published_sizes(net, channels, millions):
    # As junyanz/pytorch-CycleGAN-and-pix2pix prints them, which has biases elsewhere and, of
    # instance normalisation, none.
    assert size_of(net, 1, 256, 256, channels) == pytest.approx(millions * 1e6, rel=1e-3)


@pytest.mark.parametrize("layers, field", [(0, 1), (1, 16), (2, 34), (3, 70)])
def test_an_output_of_the_patch_critic_sees_its_patch_and_no_more(layers, field):
    side = field + 24
    critic = nets.PatchCritic(channels=1, num_layers=layers, norm="none")
    x = jax.random.normal(KEY, (1, side, side, 1))

    @jax.jit
    def slope_of_an_output(x):
        variables = critic.init(KEY, x)
        middle = critic.apply(variables, x).shape[1] // 2
        return jax.grad(lambda x: critic.apply(variables, x)[0, middle, middle])(x)[0, ..., 0]

    slope = slope_of_an_output(x)
    for axis in (0, 1):
        seen = np.flatnonzero(np.abs(slope).max(1 - axis))
        assert seen[-1] - seen[0] + 1 == field
        assert 0 < seen[0] and seen[-1] < side - 1, "the border cuts nothing off"


@pytest.mark.parametrize("side", [28, 32, 17])
def test_the_u_net_keeps_any_size(side):
    net = nets.UNetTranslator((side, side, 3), channels=2)
    x = jax.ShapeDtypeStruct((2, side, side, 1), jnp.float32)
    made, variables = jax.eval_shape(net.init_with_output, KEY, x)
    assert made.shape == (2, side, side, 3) and made.dtype == jnp.float32
    assert "up_4" in variables["params"] and "up_norm_0" not in variables["params"]


def test_the_u_net_drops_activations_in_training_only():
    net = nets.UNetTranslator((6, 6, 3), channels=2, num_halvings=2)
    x = jax.random.normal(KEY, (2, 6, 6, 1))

    @jax.jit
    def made(key):
        variables = net.init(KEY, x)
        return net.apply(variables, x), net.apply(variables, x, train=True, rngs={"dropout": key})

    (plain, one), (again, two) = (made(jax.random.key(i)) for i in (0, 1))
    assert np.abs(plain).max() < 1 and np.array_equal(plain, again)
    assert np.abs(one - two).max() > 1e-5


def test_dropout_stands_in_the_first_layers_of_the_way_up():
    def layers(**kwargs):
        net = nets.UNetTranslator((32, 32, 1), channels=2, **kwargs)
        drawn = {"params": KEY, "dropout": KEY}
        x = jnp.zeros((1, 32, 32, 1))
        jaxpr = jax.make_jaxpr(lambda keys: net.init(keys, x, train=True))(drawn)
        return str(jaxpr).count("random_bits[") - str(
            jax.make_jaxpr(lambda keys: net.init(keys, x))(drawn)
        ).count("random_bits[")

    assert [layers(), layers(num_dropout=1), layers(num_dropout=9)] == [3, 1, 4]
    assert layers(dropout_rate=0.0) == 0


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_the_residual_translator_takes_other_channels_and_normalises_as_told(norm):
    net = nets.ResNetTranslator((8, 12, 3), channels=2, num_blocks=1, norm=norm)
    x = jax.ShapeDtypeStruct((2, 8, 12, 1), jnp.float32)
    made, variables = jax.eval_shape(net.init_with_output, KEY, x)
    assert made.shape == (2, 8, 12, 3)
    assert ("batch_stats" in variables) == (norm == "batch")
    assert ("bias" in variables["params"]["block_0_0"]) == (norm == "none")


def test_instance_normalisation_is_of_each_image_by_itself():
    net = nets.ResNetTranslator((4, 4, 1), channels=2, num_halvings=0, num_blocks=0)
    x = jax.random.normal(KEY, (2, 4, 4, 1))

    @jax.jit
    def made(x):
        variables = net.init(KEY, x)
        return net.apply(variables, x), net.apply(variables, 3.0 * x[:1])

    both, first = made(x)
    # A factor of an image is taken away by the first normalisation.
    np.testing.assert_allclose(first, both[:1], atol=1e-4)


@pytest.mark.parametrize(
    "net, side, message",
    [
        (nets.UNetTranslator((8, 8, 1), num_halvings=4), 8, "more than 1 before the last halving"),
        (nets.ResNetTranslator((30, 30, 1)), 30, "sides divisible by 4"),
        (nets.PatchCritic(), 16, "needs sides of at least 24"),
    ],
)
def test_images_that_networks_cannot_take_are_refused(net, side, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(net.init, KEY, jnp.zeros((1, side, side, 1)))
