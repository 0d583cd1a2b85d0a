import sys

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


@pytest.fixture
def in_small_pieces(monkeypatch):
    """Few scores are many already, so that small arrays go piece by piece."""
    small = {"_IN_CACHE": 100, "_AT_ONCE": 400, "_QUERIES": 4}
    for name, value in small.items():
        monkeypatch.setattr(f"genjax.nets.attention.{name}", value)
    module = sys.modules["genjax.nets.attention"]
    module._as_fast_as_the_platform.clear_cache()
    yield
    module._as_fast_as_the_platform.clear_cache()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens, keys", [(11, 11), (16, 16), (5, 9), (9, 5)])
def test_pieces_are_the_whole(in_small_pieces, tokens, keys, causal):
    """Of several heads, some of them at once, to any order of derivatives, one by one or not."""
    of = jax.random.split(jax.random.key(0), 4)
    q = jax.random.normal(of[0], (7, tokens, 5, 3))
    k, v = (jax.random.normal(key, (7, keys, 5, 3)) for key in of[1:3])
    towards = jax.random.normal(of[3], q.shape)

    def everything(function):
        def loss(q, k, v):
            return jnp.sum(jnp.sin(function(q, k, v)))

        def slope(q):
            return jax.grad(loss, (0, 1, 2))(q, k, v)

        along = jax.jvp(slope, (q,), (towards,))
        single = jax.vmap(lambda q, k, v: function(q[None], k[None], v[None])[0])
        return jax.jit(lambda: (function(q, k, v), along, single(q, k, v)))()

    ours = everything(lambda q, k, v: attention(q, k, v, causal=causal))
    theirs = everything(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, is_causal=causal))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_goes_piece_by_piece_is_a_loop(in_small_pieces):
    x = jnp.ones((7, 11, 5, 3))
    assert "while" in jax.jit(lambda x: attention(x, x, x)).lower(x).as_text()
    assert "while" not in jax.jit(lambda x: attention(x, x, x)).lower(x[:1, :9, :1]).as_text()


_SPREAD = """
import json
import jax, jax.numpy as jnp, numpy as np
from genjax.nets.attention import attention
kind = jax.sharding.AxisType.KIND
mesh = jax.make_mesh((3,), ("data",), devices=jax.devices()[:3], axis_types=(kind,))
rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
x = jax.random.normal(jax.random.key(0), (51, 500, 1, 4))
def by(function):
    return jax.grad(lambda x: jnp.sum(function(x, x, x) ** 2))
def mapped(x):
    one = lambda x: attention(x, x, x)
    spec = jax.sharding.PartitionSpec("data")
    return jax.shard_map(one, mesh=mesh, in_specs=spec, out_specs=spec)(x)
truth = by(jax.nn.dot_product_attention)(x)
with jax.set_mesh(mesh):
    here = jax.device_put(x, rows)
    compiled = jax.jit(by(attention), out_shardings=rows).lower(here).compile()
    apart = float(np.max(np.abs(np.asarray(compiled(here)) - np.asarray(truth))))
    of_each = np.max(np.abs(np.asarray(jax.jit(mapped)(here))
                            - np.asarray(jax.nn.dot_product_attention(x, x, x))))
text = compiled.as_text()
moved = [word for word in ("all-gather", "all-to-all", "collective-permute") if word in text]
print(json.dumps({"loop": "while" in text, "moved": moved, "apart": max(apart, float(of_each))}))
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_rows_on_several_devices_stay_there(in_a_process, kind):
    found = in_a_process(_SPREAD.replace("KIND", kind), devices=4)
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
