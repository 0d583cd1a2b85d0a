import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax.nets.attention import attention


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    # The last two are long enough to go piece by piece: in blocks of queries, several at once.
    "shape",
    [(2, 17, 1, 8), (1, 5, 3, 4), (3, 1201, 1, 4), (45, 311, 1, 2)],
)
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


_SPREAD = """
import json
import jax, jax.numpy as jnp, numpy as np
from genjax.nets.attention import attention
kind = jax.sharding.AxisType.KIND
mesh = jax.make_mesh((2,), ("data",), axis_types=(kind,))
rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
x = jax.random.normal(jax.random.key(0), (48, 300, 1, 4))
def by(function):
    return jax.grad(lambda x: jnp.sum(function(x, x, x) ** 2))
compiled = jax.jit(by(attention), out_shardings=rows).lower(jax.device_put(x, rows)).compile()
text = compiled.as_text()
apart = np.max(np.abs(compiled(jax.device_put(x, rows)) - by(jax.nn.dot_product_attention)(x)))
moved = [word for word in ("all-gather", "all-to-all", "collective-permute") if word in text]
print(json.dumps({"loop": "while" in text, "moved": moved, "apart": float(apart)}))
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_rows_on_several_devices_stay_there(in_a_process, kind):
    found = in_a_process(_SPREAD.replace("KIND", kind), devices=2)
    assert found["loop"] and not found["moved"] and found["apart"] < 1e-4


def test_scores_of_long_sequences_are_not_kept():
    x = jnp.zeros((32, 1024, 1, 4))
    loss = jax.jit(jax.grad(lambda x: attention(x, x, x, causal=True).sum()))
    memory = loss.lower(x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.25 * (4 * 32 * 1024**2)


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
