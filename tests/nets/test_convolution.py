import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets import Conv, ConvTranspose
from genjax.nets.convolution import conv

CONV = {
    "same": {},
    "stride 2": dict(strides=(2, 2)),
    "odd stride, valid": dict(strides=(2, 3), padding="VALID"),
    "groups": dict(feature_group_count=2),
    "dilated": dict(kernel_dilation=(2, 1)),
    "uneven padding": dict(padding=((0, 2), (3, 1)), strides=(3, 1)),
    "no bias": dict(use_bias=False),
    "pointwise": dict(kernel_size=(1, 1)),
    "pointwise, stride 2": dict(kernel_size=(1, 1), strides=(2, 1)),
    "pointwise, padded": dict(kernel_size=(1, 1), padding=((0, 1), (0, 0))),
    "pointwise, groups": dict(kernel_size=(1, 1), feature_group_count=2),
}
TRANSPOSED = {
    "same": {},
    "stride 2": dict(strides=(2, 2)),
    "odd stride, valid": dict(strides=(2, 3), padding="VALID"),
    "stride beyond kernel": dict(strides=(4, 5)),
    "stride beyond kernel, valid": dict(strides=(4, 5), padding="VALID"),
    "dilated": dict(kernel_dilation=(2, 1), strides=(2, 2)),
    "uneven padding": dict(padding=((0, 2), (3, 1)), strides=(3, 1)),
    "transposed kernel": dict(transpose_kernel=True, strides=(2, 2)),
    "no bias": dict(use_bias=False),
    "pointwise": dict(kernel_size=(1, 1)),
}
CASES = (
    [(Conv, nn.Conv, kw, loop) for kw in CONV.values() for loop in (False, True)]
    + [(ConvTranspose, nn.ConvTranspose, kw, False) for kw in TRANSPOSED.values()]
    + [(ConvTranspose, nn.ConvTranspose, TRANSPOSED["stride 2"], True)]
)
IDS = [
    f"{layer.__name__}-{name}{'-in loop' if loop else ''}"
    for (layer, _, _, loop), name in zip(
        CASES, [n for n in CONV for _ in range(2)] + [*TRANSPOSED, "stride 2"], strict=True
    )
]


@pytest.mark.parametrize("ours, stock, kwargs, in_loop", CASES, ids=IDS)
def test_layer_has_the_values_and_gradients_of_stock_flax(ours, stock, kwargs, in_loop):
    x = jax.random.normal(jax.random.key(1), (2, 7, 9, 4))
    kwargs = {"kernel_size": (3, 4), **kwargs}
    mine, theirs = ours(6, in_loop=in_loop, **kwargs), stock(6, **kwargs)
    params = theirs.init(jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, mine.init(jax.random.key(0), x)) == jax.tree.map(
        jnp.shape, params
    )

    def everything(layer):
        def loss(params, x):
            return jnp.sum(jnp.sin(layer.apply(params, x)))

        def penalty(params, x):  # as a gradient penalty: a gradient of a gradient
            return jnp.sum(jnp.square(jax.grad(loss, 1)(params, x)))

        def all_of_it(params, x):
            tangent = jax.jvp(lambda x: loss(params, x), (x,), (jnp.cos(x),))[1]
            return (
                layer.apply(params, x),
                jax.grad(loss, (0, 1))(params, x),
                jax.grad(penalty, (0, 1))(params, x),
                tangent,
            )

        return jax.jit(all_of_it)(params, x)

    for actual, expected in zip(
        jax.tree.leaves(everything(mine)), jax.tree.leaves(everything(theirs)), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
@pytest.mark.parametrize("ours, stock", [(Conv, nn.Conv), (ConvTranspose, nn.ConvTranspose)])
def test_layer_computes_in_the_dtype_of_stock_flax(ours, stock, dtype, x64):
    x = jax.random.normal(jax.random.key(1), (2, 5, 6, 3), jnp.float32)
    mine, theirs = ours(4, (3, 3), dtype=dtype), stock(4, (3, 3), dtype=dtype)
    params = theirs.init(jax.random.key(0), x)
    actual, expected = mine.apply(params, x), theirs.apply(params, x)
    assert actual.dtype == expected.dtype == dtype
    tolerance = 1e-12 if dtype == jnp.float64 else 2e-2
    np.testing.assert_allclose(
        np.asarray(actual, float), np.asarray(expected, float), rtol=tolerance, atol=tolerance
    )


def test_layers_work_in_one_and_three_spatial_dimensions():
    for spatial in (1, 3):
        x = jax.random.normal(jax.random.key(0), (2, *(5,) * spatial, 3))
        for mine, theirs in [(Conv, nn.Conv), (ConvTranspose, nn.ConvTranspose)]:
            layers = [c(4, (3,) * spatial, strides=(2,) * spatial) for c in (mine, theirs)]
            params = layers[1].init(jax.random.key(1), x)
            np.testing.assert_allclose(*(layer.apply(params, x) for layer in layers), atol=1e-5)


def test_layer_maps_over_a_further_axis_of_both_operands():
    x = jax.random.normal(jax.random.key(0), (3, 2, 6, 6, 4))
    w = jax.random.normal(jax.random.key(1), (3, 3, 3, 4, 5))
    call = lambda x, w: conv(x, w, (1, 1), "SAME")  # noqa: E731
    together = jax.vmap(jax.grad(lambda x, w: call(x, w).sum(), 1))(x, w)
    one_by_one = jnp.stack(
        [jax.grad(lambda w, x=x: call(x, w).sum())(w) for x, w in zip(x, w, strict=True)]
    )
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "x_shape, w_shape, message",
    [
        ((2, 5, 5, 3), (3, 3, 4, 8), "input channels"),
        ((2, 5, 3), (3, 3, 3, 8), "spatial axes"),
    ],
)
def test_shapes_that_do_not_fit_raise(x_shape, w_shape, message):
    with pytest.raises(ValueError, match=message):
        conv(jnp.ones(x_shape), jnp.ones(w_shape), (1, 1), "SAME")


def test_mixed_dtypes_raise():
    with pytest.raises(ValueError, match="one dtype"):
        conv(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1), jnp.bfloat16), (1, 1), "SAME")
