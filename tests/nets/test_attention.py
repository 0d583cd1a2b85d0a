import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.attention import attention


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 17, 1, 8), (1, 5, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_and_gradients_are_those_of_jax(shape, causal, dtype):
    keys = jax.random.split(jax.random.key(0), 4)
    operands = [jax.random.normal(key, shape).astype(dtype) for key in keys[:3]]
    weights = jax.random.normal(keys[3], shape)

    def by(function):
        def loss(*operands):
            y = function(*operands)
            assert y.dtype == dtype and y.shape == shape
            return jnp.sum(weights * y), y

        (_, y), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*operands)
        return [np.asarray(a, np.float32) for a in (y, *grads)]

    ours = by(lambda q, k, v: attention(q, k, v, causal=causal))
    theirs = by(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=causal))
    tolerance = 1e-5 if dtype == "float32" else 5e-2
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_large_scores_do_not_overflow():
    x = 1e3 * jnp.ones((1, 4, 1, 2))
    assert jnp.isfinite(attention(x, x, x)).all()
    y = jax.grad(lambda x: attention(x, x, x).sum())(x)
    assert jnp.isfinite(y).all()


def test_queries_and_keys_may_differ_in_number():
    q, k, v = (jax.random.normal(jax.random.key(i), (2, n, 1, 4)) for i, n in enumerate((3, 5, 5)))
    np.testing.assert_allclose(
        attention(q, k, v), jax.nn.dot_product_attention(q, k, v), rtol=1e-5, atol=1e-6
    )
