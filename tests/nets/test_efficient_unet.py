import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets import EfficientUNet

SMALL = dict(channels=4, multipliers=(1, 2), num_blocks=(1, 2), num_heads=1, num_groups=2)


def shapes_of(z_t, *args, **fields):
    """Shapes of parameters, and of what is kept, without computing anything."""
    net = EfficientUNet(**{**SMALL, **fields})

    def both():
        key, gamma_t = jax.random.key(0), jnp.zeros(len(z_t))
        variables = net.init(key, z_t, gamma_t, *args)
        return variables["params"], net.apply(
            variables, z_t, gamma_t, *args, capture_intermediates=True, mutable="intermediates"
        )

    params, (out, kept) = jax.eval_shape(both)
    return params, out, kept["intermediates"]


def test_no_block_sees_the_full_resolution():
    _, out, kept = shapes_of(jnp.zeros((2, 16, 12, 3)))
    assert out.shape == (2, 16, 12, 3)
    heights = {
        name: kept[name]["__call__"][0].shape[1:]
        for name in kept
        if name.startswith(("down_", "up_"))
    }
    assert heights == {
        "down_0_0": (8, 6, 4), "down_1_0": (4, 3, 8), "down_1_1": (4, 3, 8),
        "up_1_0": (4, 3, 8), "up_1_1": (4, 3, 8), "up_0_0": (8, 6, 4),
    }  # fmt: skip
    assert kept["h"][0].shape[1:] == EfficientUNet(**SMALL).bottleneck_shape((16, 12, 3))


def test_attention_is_at_the_lowest_resolution_alone():
    context = jnp.zeros((2, 5, 6))
    params, _, _ = shapes_of(jnp.zeros((2, 8, 8, 1)), None, context, context_size=6)
    attending = {name for name in params if "cross_attention" in params[name]}
    assert attending == {"down_1_0", "down_1_1", "up_1_0", "up_1_1"}
    assert {name for name in params if "attention" in params[name]} == attending


def test_initial_network_predicts_zero_and_rows_do_not_see_each_other():
    net = EfficientUNet(channels=4, multipliers=(1,), num_blocks=(1,), num_heads=1, num_groups=2)
    z_t, gamma_t = jax.random.normal(jax.random.key(0), (2, 4, 4, 1)), jnp.array([-3.0, 3.0])
    out, params = jax.jit(net.init_with_output)(jax.random.key(1), z_t, gamma_t)
    assert (out == 0.0).all()
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(7), len(leaves))
    drawn = [0.3 * jax.random.normal(k, p.shape) for p, k in zip(leaves, keys, strict=True)]
    params, apply = jax.tree.unflatten(tree, drawn), jax.jit(net.apply)
    whole = apply(params, z_t, gamma_t)
    assert jnp.abs(whole).max() > 1e-2
    other = apply(params, z_t.at[1].set(0.0), gamma_t)
    np.testing.assert_allclose(other[0], whole[0], rtol=1e-5, atol=1e-6)
    assert jnp.abs(other[1] - whole[1]).max() > 1e-3


@pytest.mark.parametrize("shape, fields, message", [
    ((8, 6, 1), {}, "8x6 cannot be halved 2 times"),
    ((8, 8, 1), dict(num_blocks=(1,)), "as many num_blocks as multipliers"),
    ((8, 8, 1), dict(num_blocks=(0, 1)), "num_blocks must be at least 1 each"),
    ((8, 8, 1), dict(num_groups=3), "num_groups .3. must divide channels .4."),
    ((8, 8, 1), dict(out_channels=2, add_input=True), "add_input adds z_t of 1 channels"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(shape, fields, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(jnp.zeros((1, *shape)), **fields)
