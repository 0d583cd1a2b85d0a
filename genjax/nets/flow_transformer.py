"""Transformers inside flows: of couplings (all tokens see each other) and autoregressive ones."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.transformer import Cache, TransformerBlock, check_heads

_ZEROS = nn.initializers.zeros_init()


class CouplingTransformer(nn.Module):
    """A vision transformer from the kept tokens to the parameters of the others.

    Attributes:
        num_outputs: Width of the output of a token.
        hidden_size: Width of a token inside.
        num_blocks: Number of transformer blocks.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        dtype: The precision of the trunk; first and last layers are float32 or wider.

    References:
        Kolesnikov et al., Jet, arXiv:2412.15129, section 3.
    """

    num_outputs: int
    hidden_size: int = 512
    num_blocks: int = 2
    num_heads: int = 8
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], context: Float[Array, "B C"] | None = None
    ) -> Float[Array, "B T K"]:
        """Maps tokens and a context, which is added to all of them."""
        check_heads(self.hidden_size, self.num_heads)
        start = nn.initializers.normal(1.0 / math.sqrt(self.hidden_size))
        h = nn.Dense(self.hidden_size, name="dense_in")(x)
        h += self.param("position", start, (x.shape[1], self.hidden_size))
        if context is not None:
            h += nn.Dense(self.hidden_size, name="context")(context)[:, None]
        for i in range(self.num_blocks):
            h = TransformerBlock(
                self.hidden_size, self.num_heads, False, self.dtype, name=f"block_{i}"
            )(h)
        h = nn.LayerNorm(name="norm_out")(h)
        return nn.Dense(self.num_outputs, kernel_init=_ZEROS, name="dense_out")(h)


class CausalTransformer(nn.Module):
    """A transformer whose outputs for token ``i`` depend on tokens before ``i`` only.

    Attributes:
        num_outputs: Width of the output of a token.
        hidden_size: Width of a token inside.
        num_blocks: Number of transformer blocks.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        num_tokens: Number of tokens of a sequence.
        dtype: The precision of the trunk; first and last layers are float32 or wider.

    References:
        Zhai et al., Normalizing Flows are Capable Generative Models, arXiv:2412.06329, section 2.
    """

    num_outputs: int
    hidden_size: int
    num_blocks: int
    num_heads: int
    num_tokens: int
    dtype: Any = None

    def setup(self) -> None:
        """Makes the layers."""
        check_heads(self.hidden_size, self.num_heads)
        self.dense_in = nn.Dense(self.hidden_size)
        self.position = self.param(
            "position", nn.initializers.normal(0.02), (self.num_tokens, self.hidden_size)
        )
        self.context_in = nn.Dense(self.hidden_size)
        self.blocks = [
            TransformerBlock(self.hidden_size, self.num_heads, True, self.dtype)
            for _ in range(self.num_blocks)
        ]
        self.norm_out = nn.LayerNorm()
        self.dense_out = nn.Dense(self.num_outputs, kernel_init=_ZEROS)

    def __call__(
        self, x: Float[Array, "B T D"], context: Float[Array, "B C"] | None = None
    ) -> Float[Array, "B T K"]:
        """All outputs at once; zeros for the first token, which nothing comes before."""
        h = self.dense_in(x) + self.position
        if context is not None:
            h += self.context_in(context)[:, None]
        for block in self.blocks:
            h = block(h)
        outputs = self.dense_out(self.norm_out(h))
        # Moved on by one: what was computed from tokens up to i is the output for token i + 1.
        return jnp.pad(outputs[:, :-1], ((0, 0), (1, 0), (0, 0)))

    def empty_cache(self, batch_size: int, dtype: Any) -> Cache:
        """A cache of no tokens yet.

        Args:
            batch_size: Number of sequences.
            dtype: Their precision, which the cache has unless the trunk has one of its own.

        Returns:
            Keys and values of zeros, with room for all tokens.
        """
        heads = (self.num_heads, self.hidden_size // self.num_heads)
        shape = (batch_size, self.num_tokens, *heads)
        dtype = self.dtype or dtype
        empty = tuple(jnp.zeros(shape, dtype) for _ in range(self.num_blocks))
        return Cache(empty, empty)

    def step(
        self,
        x: Float[Array, "B D"],
        index: Int[Array, ""],
        cache: Cache,
        context: Float[Array, "B C"] | None = None,
    ) -> tuple[Float[Array, "B K"], Cache]:
        """Takes in token ``index``; gives the outputs for the one after it.

        Args:
            x: The token, ``[B, D]``.
            index: Its position in ``[0, num_tokens)``, ``[]``.
            cache: Keys and values of the tokens before it.
            context: What all tokens are conditional on, ``[B, C]``, or None.

        Returns:
            The outputs and the cache with the token in it.
        """
        h = self.dense_in(x)[:, None] + self.position[index]
        if context is not None:
            h += self.context_in(context)[:, None]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            h, key, value = block.step(h, cache.keys[i], cache.values[i], index)
            keys.append(key)
            values.append(value)
        outputs = self.dense_out(self.norm_out(h))[:, 0]
        return outputs, Cache(tuple(keys), tuple(values))
