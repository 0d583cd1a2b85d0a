import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets import UNet
from genjax.nets.unet import Upsample

SMALL = dict(channels=8, multipliers=(1, 2), num_blocks=1, attention_sizes=(4,), num_groups=4)


def noisy(params):
    """Parameters with every zero-initialised layer switched on."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    noise = [p + 0.1 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noise)


def inputs(batch=3, shape=(8, 6, 2)):
    z_t = jax.random.normal(jax.random.key(0), (batch, *shape))
    return z_t, jnp.linspace(-13.3, 5.0, batch)


@pytest.fixture(scope="module")
def params():
    return noisy(jax.jit(UNet(**SMALL).init)(jax.random.key(1), *inputs()))


@pytest.mark.parametrize("fields, channels", [
    ({}, 2),
    pytest.param(dict(add_input=True), 2, marks=pytest.mark.slow),
    pytest.param(dict(out_channels=4), 4, marks=pytest.mark.slow),
])  # fmt: skip
def test_initial_network_predicts_zero_or_its_input(fields, channels):
    z_t, gamma_t = inputs()
    net = UNet(**SMALL, **fields, dtype="bfloat16", fourier_exponents=(0, 1))
    out, _ = jax.jit(net.init_with_output)(jax.random.key(1), z_t, gamma_t)
    assert out.dtype == jnp.float32
    expected = z_t if "add_input" in fields else jnp.zeros((*z_t.shape[:-1], channels))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.slow
def test_rows_do_not_see_each_other(params):
    z_t, gamma_t = inputs()
    apply = jax.jit(UNet(**SMALL).apply)
    alone = apply(params, z_t[:1], gamma_t[:1])
    np.testing.assert_allclose(apply(params, z_t, gamma_t)[:1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_pixel_sees_every_other_through_the_middle(params):
    z_t, gamma_t = inputs(1)
    net = UNet(**SMALL)
    slope = jax.jit(jax.grad(lambda z: net.apply(params, z, gamma_t)[0, 0, 0, 0]))(z_t)
    assert (slope != 0).all()


@pytest.mark.slow
def test_gamma_label_context_and_dropout_all_matter(strict):
    z_t, gamma_t = inputs()
    net = UNet(**SMALL, num_classes=3, context_size=5, num_heads=2)
    label, context = jnp.arange(3), jax.random.normal(jax.random.key(2), (3, 4, 5))
    params = noisy(jax.jit(net.init)(jax.random.key(1), z_t, gamma_t, label, context))
    apply = jax.jit(net.apply, static_argnames="deterministic")
    base = apply(params, z_t, gamma_t, label, context)
    dropout = dict(deterministic=False, rngs={"dropout": jax.random.key(0)})
    for other in (
        apply(params, z_t, gamma_t + 1.0, label, context),
        apply(params, z_t, gamma_t, label[::-1], context),
        apply(params, z_t, gamma_t, label, context + 1.0),
        apply(params, z_t, gamma_t, label, context, **dropout),
    ):
        assert float(jnp.abs(other - base).max()) > 1e-3
    # Tokens have no order, and may be more than there were.
    again = apply(params, z_t, gamma_t, label, jnp.tile(context[:, ::-1], (1, 2, 1)))
    np.testing.assert_allclose(again, base, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sizes, found", [((), set()), ((8, 3), {"0"}), ((4,), {"1"})])
def test_attention_is_at_the_given_heights_and_in_the_middle(sizes, found):
    net = UNet(**{**SMALL, "attention_sizes": sizes})
    params = jax.eval_shape(net.init, jax.random.key(0), *inputs())["params"]
    having = {name for name, layer in params.items() if "attention" in layer}
    assert having == {"mid_0"} | {
        f"{way}_{level}_{i}" for level in found for way, i in (("down", 0), ("up", 0), ("up", 1))
    }


def test_upsampling_is_a_convolution_of_repeated_pixels():
    x, weights = (
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate(((2, 4, 3, 5), (2, 8, 6, 7)))
    )
    params = noisy(Upsample(7, jnp.float32).init(jax.random.key(2), x)["params"])
    layer = nn.Conv(7, (3, 3))

    def ours(params, x):
        return jnp.sum(weights * Upsample(7, jnp.float32).apply({"params": params}, x))

    def theirs(params, x):
        repeated = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return jnp.sum(weights * layer.apply({"params": params}, repeated))

    found, expected = (jax.jit(jax.value_and_grad(f, (0, 1)))(params, x) for f in (ours, theirs))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# The space between the ways down and up.


@pytest.mark.parametrize("size, expected", [((8, 6, 2), (4, 3, 16)), ((6, 10, 1), (3, 5, 16))])
def test_the_middle_is_kept_and_has_the_shape_that_is_said(size, expected):
    net, (z_t, gamma_t) = UNet(**SMALL), inputs(2, size)
    assert net.bottleneck_shape(size) == expected
    _, kept = jax.eval_shape(
        lambda *a: net.init_with_output(*a, mutable=("params", "intermediates")),
        jax.random.key(1), z_t, gamma_t,
    )  # fmt: skip
    (h,) = kept["intermediates"]["h"]
    assert h.shape == (2, *expected)


def test_a_change_of_zero_changes_no_bit_and_another_leaves_the_middle_as_it_was(params):
    z_t, gamma_t = inputs()
    net = UNet(**SMALL)

    @jax.jit
    def apply(delta_h):
        return net.apply(
            {"params": params["params"]}, z_t, gamma_t, None, None, delta_h, mutable="intermediates"
        )

    zeros = jnp.zeros((3, *net.bottleneck_shape((8, 6, 2))))
    (base, kept), (same, _), (other, kept_too) = apply(None), apply(zeros), apply(zeros + 1.0)
    np.testing.assert_array_equal(same, base)
    assert float(jnp.abs(other - base).max()) > 1e-3
    np.testing.assert_array_equal(*(k["intermediates"]["h"][0] for k in (kept, kept_too)))


def test_a_change_reaches_its_own_row_only(params):
    z_t, gamma_t = inputs()
    net = UNet(**SMALL)
    delta_h = jnp.zeros((3, *net.bottleneck_shape((8, 6, 2)))).at[1].set(1.0)
    apply = jax.jit(lambda delta_h: net.apply(params, z_t, gamma_t, None, None, delta_h))
    base, other = apply(None), apply(delta_h)
    changed = jnp.abs(other - base).max(axis=(1, 2, 3)) > 1e-3
    np.testing.assert_array_equal(changed, [False, True, False])


# Precision and memory.


def test_bfloat16_trunk_returns_float32_close_to_float32(params):
    z_t, gamma_t = inputs()
    exact = jax.jit(UNet(**SMALL).apply)(params, z_t, gamma_t)
    rough = jax.jit(UNet(**SMALL, dtype="bfloat16").apply)(params, z_t, gamma_t)
    assert rough.dtype == jnp.float32
    error = jnp.abs(rough - exact).max() / jnp.abs(exact).max()
    assert 0 < float(error) < 0.05


def loss_and_grads(net, params):
    def loss(params):
        key = {"dropout": jax.random.key(3)}
        y = net.apply(params, *inputs(), deterministic=False, rngs=key)
        return jnp.sum(jnp.sin(y))

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.fixture(scope="module")
def plain(params):
    """The loss of the network without remat, and its gradients."""
    return loss_and_grads(UNet(**SMALL), params)


@pytest.mark.parametrize("remat", ["dots", "full"])
@pytest.mark.slow
def test_remat_changes_nothing(params, plain, remat):
    found = loss_and_grads(UNet(**SMALL, remat=remat), params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


# What does not fit.


@pytest.mark.parametrize(
    "fields, args, message",
    [
        (dict(num_groups=3), (), r"num_groups \(3\) must divide channels \(8\)"),
        (dict(num_blocks=0), (), "num_blocks must be at least 1, got 0"),
        (dict(multipliers=()), (), "multipliers must be at least 1"),
        (dict(num_heads=3), (), r"num_heads \(3\) must divide .* \(16\)"),
        (dict(multipliers=(1, 1, 1)), (), "4x3, resolution 2 of 3, cannot be halved: give fewer"),
        (dict(num_classes=2), (), "label is missing"),
        ({}, (jnp.zeros(3, jnp.int32),), "label is given"),
        (dict(context_size=2), (), "context is missing"),
        ({}, (None, jnp.zeros((3, 1, 2))), "context is given"),
        (dict(context_size=2), (None, jnp.zeros((3, 1, 4))), r"expected context \[B, T, 2\]"),
        ({}, (None, None, jnp.zeros((3, 4, 3, 8))), r"delta_h of shape \(3, 4, 3, 16\) .* got"),
        (dict(add_input=True, out_channels=4), (), "z_t of 2 channels .* out_channels 4"),
        (dict(out_channels=0), (), "out_channels must be at least 1, got 0"),
        (dict(gamma_min=5.0), (), "gamma_min must be below gamma_max"),
        (dict(remat="some"), (), "remat must be none, dots or full"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_raises(fields, args, message):
    net = UNet(**{**SMALL, **fields})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(net.init, jax.random.key(0), *inputs(), *args)


def test_images_of_other_ranks_raise():
    with pytest.raises(ValueError, match="height, width, channels, got"):
        UNet(**SMALL).bottleneck_shape((8, 8))
