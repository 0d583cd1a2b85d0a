"""Dense layers on columns are Flax's on rows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.dense import Dense
from genjax.nets.flow_mlp import ResidualMLP
from genjax.nets.made import MADE

KEY = jax.random.key(0)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("sizes", [(5, 3, 7), (1, 1, 1), (64, 2, 33), (3, 92, 256)])
def test_columns_give_flax_dense_transposed_with_the_same_parameters(sizes, dtype, use_bias):
    inputs, outputs, batch = sizes
    columns = Dense(outputs, True, use_bias, dtype)
    rows = nn.Dense(outputs, use_bias, dtype)
    x = jax.random.normal(KEY, (batch, inputs))
    weights = jax.random.normal(jax.random.key(1), (batch, outputs))
    variables = rows.init(KEY, x)
    jax.tree.map(np.testing.assert_array_equal, variables, columns.init(KEY, x.T))
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)

    def of_rows(variables, x):
        y = rows.apply(variables, x)
        return jnp.sum(weights * y), y

    def of_columns(variables, x):
        y = columns.apply(variables, x.T).T
        return jnp.sum(weights * y), y

    (_, expected), expected_grads = jax.value_and_grad(of_rows, (0, 1), has_aux=True)(variables, x)
    (_, found), grads = jax.value_and_grad(of_columns, (0, 1), has_aux=True)(variables, x)
    assert found.dtype == expected.dtype
    # Sums of up to 256 products; of bfloat16 numbers, which carry 8 bits.
    close = dict(rtol=0.02, atol=0.2) if dtype else dict(rtol=1e-5, atol=1e-4)
    for a, b in zip(
        jax.tree.leaves((found, grads)), jax.tree.leaves((expected, expected_grads)), strict=True
    ):
        np.testing.assert_allclose(np.float32(a), np.float32(b), **close)


def test_parameters_are_float32_where_float64_is_enabled(x64):
    x = jnp.ones((3, 2), jnp.float32)
    variables = Dense(4, True).init(KEY, x.T)
    jax.tree.map(np.testing.assert_array_equal, variables, nn.Dense(4).init(KEY, x))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert Dense(4, True).apply(variables, x.T).dtype == jnp.float32


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("make", [
    lambda: ResidualMLP(6, hidden_size=8), lambda: MADE(2, hidden_size=8, num_layers=3),
], ids=["residual", "made"])  # fmt: skip
def test_networks_on_columns_are_those_on_rows(make, with_context):
    # 8 rows are held as rows in networks of width 8, 9 as columns.
    x = jax.random.normal(KEY, (9, 3))
    context = jax.random.normal(jax.random.key(1), (9, 2)) if with_context else None
    net = make()
    variables = jax.jit(net.init)(KEY, x, context)
    first = jax.jit(net.init)(KEY, x[:8], None if context is None else context[:8])
    jax.tree.map(np.testing.assert_array_equal, variables, first)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)

    def loss(variables, x, context):
        y = net.apply(variables, x, context)
        return jnp.sum(jnp.sin(y[:8])), y

    def gradients(x, context):
        (_, y), grads = jax.value_and_grad(loss, has_aux=True)(variables, x, context)
        return y[:8], grads

    columns = gradients(x, context)
    rows = gradients(x[:8], None if context is None else context[:8])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, columns, rows)
    program = str(jax.make_jaxpr(lambda x: net.apply(variables, x, context))(x))
    assert "f32[8,9] = dot_general" in program and "f32[9,8] = dot_general" not in program
    if isinstance(net, MADE):  # it takes a point alone, too
        one = None if context is None else context[0]
        close(net.apply(variables, x[0], one), net.apply(variables, x[:1], one)[0])
