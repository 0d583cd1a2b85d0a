"""Scaled dot-product attention, with a formulation of its own on CPU."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def attention(
    query: Float[Array, "B T H D"],
    key: Float[Array, "B S H D"],
    value: Float[Array, "B S H D"],
    *,
    causal: bool = False,
) -> Float[Array, "B T H D"]:
    r"""The result of :func:`jax.nn.dot_product_attention`, :math:`softmax(Q K^T / \sqrt{D})\,V`.

    On GPU and TPU it is that function. On CPU the weights are divided by their sum after the
    product with the values, not before, heads come before tokens, and keys and values are laid out
    by channel, which is faster there.

    Args:
        query: Queries, ``[B, T, H, D]``.
        key: Keys, ``[B, S, H, D]``.
        value: Values, ``[B, S, H, D]``.
        causal: Whether token ``i`` sees tokens up to ``i`` only.

    Returns:
        Means of the values, ``[B, T, H, D]``; weights are float32 inside.

    References:
        Vaswani et al., arXiv:1706.03762, eq. 1.
    """
    return _as_fast_as_the_platform(query, key, value, causal=causal)


# Compiled, so that layers of one shape, and their gradients, are traced once and not one by one.
@functools.partial(jax.jit, static_argnames="causal")
def _as_fast_as_the_platform(query: Array, key: Array, value: Array, *, causal: bool) -> Array:
    def stock(query: Array, key: Array, value: Array) -> Array:
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal)

    def on_cpu(query: Array, key: Array, value: Array) -> Array:
        wide = jnp.promote_types(query.dtype, jnp.float32)
        # One axis of batches: XLA's CPU backend multiplies such matrices fastest. Keys and values
        # are laid out so that no product, of the gradients either, reads weights by columns.
        q = query.astype(wide).swapaxes(1, 2).reshape(-1, *query.shape[1::2])
        k, v = (
            x.astype(wide).transpose(0, 2, 3, 1).reshape(-1, *x.shape[:0:-2]) for x in (key, value)
        )
        scores = jnp.einsum("btd,bds->bts", q * q.shape[-1] ** -0.5, k)
        if causal:
            seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
            scores = jnp.where(seen, scores, -jnp.inf)
        # The largest cancels: no gradient goes through it.
        largest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
        weights = jnp.exp(scores - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        mixed = (jnp.einsum("bts,bds->btd", weights, v) / total).astype(value.dtype)
        batch, tokens, heads, size = query.shape
        return mixed.reshape(batch, heads, tokens, size).swapaxes(1, 2)

    return jax.lax.platform_dependent(query, key, value, cpu=on_cpu, default=stock)
