import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.normalization import GroupNorm


@pytest.mark.parametrize(
    ("shape", "groups"), [((2, 5, 3, 8), 8), ((2, 5, 3, 12), 4), ((3, 7, 6), 1), ((4, 6), 2)]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.slow
def test_values_gradients_and_parameters_are_those_of_flax(shape, groups, dtype):
    keys = jax.random.split(jax.random.key(0), 4)
    x = (2.0 + 3.0 * jax.random.normal(keys[0], shape)).astype(dtype)
    weights = jax.random.normal(keys[1], shape)
    ours, theirs = GroupNorm(groups, dtype=dtype), nn.GroupNorm(groups, dtype=dtype)
    variables = ours.init(keys[2], x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, theirs.init(keys[2], x)
    )  # a checkpoint of either is one of the other
    variables = jax.tree.map(lambda a: a + jax.random.normal(keys[3], a.shape), variables)

    def by(layer):
        def loss(variables, x):
            y = layer.apply(variables, x)
            assert y.dtype == dtype
            return jnp.sum(weights * y), y

        (_, y), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(variables, x)
        return [np.asarray(a, np.float32) for a in jax.tree.leaves((y, grads))]

    tolerance = 2e-5 if dtype == "float32" else 2e-2
    for a, b in zip(by(ours), by(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("stock", [False, True])
def test_a_condition_scales_and_shifts_what_flax_normalises(stock, monkeypatch):
    if stock:  # the formulation of GPUs and TPUs
        monkeypatch.setattr(
            jax.lax, "platform_dependent", lambda *operands, default, **_: default(*operands)
        )
    keys = jax.random.split(jax.random.key(0), 5)
    x, weights = (2.0 + 3.0 * jax.random.normal(key, (3, 5, 2, 6)) for key in keys[:2])
    film = tuple(jax.random.normal(key, (3, 6)) for key in keys[2:4])
    variables = GroupNorm(2).init(keys[4], x, film)
    variables = jax.tree.map(lambda a: a + jax.random.normal(keys[4], a.shape), variables)

    def ours(variables, x, film):
        return jnp.sum(weights * GroupNorm(2).apply(variables, x, film))

    def theirs(variables, x, film):
        scale, shift = (a[:, None, None] for a in film)
        return jnp.sum(weights * (nn.GroupNorm(2).apply(variables, x) * (1.0 + scale) + shift))

    found, expected = (jax.value_and_grad(f, (0, 1, 2))(variables, x, film) for f in (ours, theirs))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_a_constant_is_mapped_to_the_bias():
    x = jnp.full((2, 4, 4, 6), 1e4)
    y, variables = GroupNorm(3).init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(y, 0.0, atol=1e-6)
    grads = jax.grad(lambda x: GroupNorm(3).apply(variables, x).sum())(x)
    assert jnp.isfinite(grads).all()


def test_in_double_precision_parameters_and_results_are_those_of_flax(x64):
    x = jnp.ones((2, 4, 6), jnp.float32)
    for layer in (GroupNorm(3), nn.GroupNorm(3)):
        y, variables = jax.jit(layer.init_with_output)(jax.random.key(0), x)
        assert {a.dtype for a in (y, *jax.tree.leaves(variables))} == {jnp.dtype("float32")}
        assert jax.jit(layer.apply)(variables, x.astype(jnp.float64)).dtype == jnp.float64


def test_an_empty_batch_is_normalised():
    variables = GroupNorm(3).init(jax.random.key(0), jnp.zeros((1, 4, 6)))
    assert GroupNorm(3).apply(variables, jnp.zeros((0, 4, 6))).shape == (0, 4, 6)


@pytest.mark.usefixtures("unchecked")
def test_one_axis_is_refused():
    with pytest.raises(ValueError, match=r"expected \[B, \*spatial, C\]"):
        GroupNorm(3).init(jax.random.key(0), jnp.zeros(6))


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"6 channels .* num_groups=4"):
        GroupNorm(4).init(jax.random.key(0), jnp.zeros((1, 2, 2, 6)))
