"""Blocks of transformers, which take in sequences at once or token by token."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.attention import attention
from genjax.nets.dropout import Dropout


class Cache(NamedTuple):
    """Keys and values of the tokens a causal transformer has seen.

    Attributes:
        keys: Keys of each layer, ``[B, T, heads, head_size]``.
        values: Values of each layer, ``[B, T, heads, head_size]``.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]


class TransformerBlock(nn.Module):
    """Pre-normalised self-attention and a perceptron; normalisations and softmax in float32.

    Attributes:
        hidden_size: Width of a token.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        causal: Whether a token sees those up to itself only.
        dtype: The precision of the products.
        dropout_rate: Share of what is added to tokens that is dropped, in [0, 1); acts where an
            rng ``dropout`` is given.
    """

    hidden_size: int
    num_heads: int
    causal: bool
    dtype: Any
    dropout_rate: float = 0.0

    def setup(self) -> None:
        """Makes the layers."""
        dense = nn.Dense
        self.norm_attention = nn.LayerNorm()
        self.norm_mlp = nn.LayerNorm()
        self.query_key_value = dense(3 * self.hidden_size, dtype=self.dtype)
        self.attention_out = dense(self.hidden_size, dtype=self.dtype)
        self.mlp_in = dense(4 * self.hidden_size, dtype=self.dtype)
        self.mlp_out = dense(self.hidden_size, dtype=self.dtype)
        self.dropout = Dropout(self.dropout_rate)

    def _heads(
        self, x: Float[Array, "B T W"]
    ) -> tuple[Float[Array, "B T H S"], Float[Array, "B T H S"], Float[Array, "B T H S"]]:
        joined = self.query_key_value(self.norm_attention(x))
        query, key, value = jnp.split(joined, 3, axis=-1)
        shape = (*x.shape[:2], self.num_heads, self.hidden_size // self.num_heads)
        return query.reshape(shape), key.reshape(shape), value.reshape(shape)

    def _rest(
        self, x: Float[Array, "B T W"], attended: Float[Array, "B T H S"]
    ) -> Float[Array, "B T W"]:
        whole = not self.has_rng("dropout")
        moved = self.attention_out(attended.reshape(x.shape))
        x = x + self.dropout(moved, deterministic=whole)
        moved = self.mlp_out(nn.gelu(self.mlp_in(self.norm_mlp(x))))
        return x + self.dropout(moved, deterministic=whole)

    def __call__(self, x: Float[Array, "B T W"]) -> Float[Array, "B T W"]:
        """Maps ``[B, T, hidden_size]`` to the same shape."""
        return self.taken_in(x)[0]

    def taken_in(
        self, x: Float[Array, "B T W"]
    ) -> tuple[Float[Array, "B T W"], Float[Array, "B T H S"], Float[Array, "B T H S"]]:
        """What becomes of tokens ``[B, T, hidden_size]``, and their keys and values."""
        query, key, value = self._heads(x)
        attended = attention(query, key, value, causal=self.causal)
        return self._rest(x, attended), key, value

    def step(
        self,
        x: Float[Array, "B 1 W"],
        keys: Float[Array, "B T H S"],
        values: Float[Array, "B T H S"],
        index: Int[Array, ""],
    ) -> tuple[Float[Array, "B 1 W"], Float[Array, "B T H S"], Float[Array, "B T H S"]]:
        """One token ``[B, 1, hidden_size]`` at position ``index``, and its cache moved on."""
        query, key, value = self._heads(x)
        keys = jax.lax.dynamic_update_slice_in_dim(keys, key.astype(keys.dtype), index, 1)
        values = jax.lax.dynamic_update_slice_in_dim(values, value.astype(keys.dtype), index, 1)
        # The cache has room for all tokens; those after this one hold nothing yet.
        seen = (jnp.arange(keys.shape[1]) <= index)[None, None, None, :]
        attended = jax.nn.dot_product_attention(query.astype(keys.dtype), keys, values, mask=seen)
        return self._rest(x, attended), keys, values


def check_heads(hidden_size: int, num_heads: int) -> None:
    """Refuses heads that do not divide a width.

    Args:
        hidden_size: Width of a token.
        num_heads: Number of attention heads.

    Raises:
        ValueError: If it does not divide the width.
    """
    if hidden_size % num_heads:
        raise ValueError(f"num_heads {num_heads} does not divide hidden_size {hidden_size}")
