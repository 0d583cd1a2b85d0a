"""Dense layers on columns are Flax's on rows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.dense import DenseColumns

KEY = jax.random.key(0)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("sizes", [(5, 3, 7), (1, 1, 1), (64, 2, 33), (3, 92, 256)])
def test_columns_give_flax_dense_transposed_with_the_same_parameters(sizes, dtype, use_bias):
    inputs, outputs, batch = sizes
    columns = DenseColumns(outputs, use_bias, dtype)
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
