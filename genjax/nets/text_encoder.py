"""Texts as tokens to vectors, for what is conditioned on them."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.transformer import TransformerBlock, check_heads


class TextEncoder(nn.Module):
    """A transformer over the tokens of a text: a vector for each of them.

    Padding is a token like any other. A negative token means that nothing is told: it has a learned
    vector of its own, so that a model whose texts are dropped at random in training is an
    unconditional one, too.

    Attributes:
        num_tokens: Number of tokens of the vocabulary; of a config that leaves it None, the data's.
        text_length: Tokens of a text; of a config that leaves it None, the data's.
        hidden_size: Width of a vector.
        num_blocks: Number of transformer blocks.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        causal: Whether a token sees those up to itself only; else it sees all.
        dropout_rate: Share of what blocks add that is dropped, in [0, 1); acts where an rng
            ``dropout`` is given.
        dtype: The precision of the trunk; the vectors are float32.

    References:
        Rombach et al., arXiv:2112.10752, section 4.3.1: a transformer trained with the model that
        it conditions, without a mask of padding.
    """

    num_tokens: int | None = None
    text_length: int | None = None
    hidden_size: int = 128
    num_blocks: int = 2
    num_heads: int = 4
    causal: bool = False
    dropout_rate: float = 0.0
    dtype: Any = None

    @property
    def context_size(self) -> int:
        """Width of the vectors."""
        return self.hidden_size

    @nn.compact
    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T W"]:
        """Maps tokens, of which negative ones tell nothing, to vectors.

        Args:
            tokens: Whole numbers, ``[B, T]``.

        Returns:
            Vectors, float32, ``[B, T, hidden_size]``.

        Raises:
            ValueError: If sizes are missing, texts have another length, or heads do not divide the
                width.
        """
        if self.num_tokens is None or self.text_length is None:
            raise ValueError("a text encoder needs num_tokens and text_length")
        if tokens.shape[1:] != (self.text_length,):
            raise ValueError(
                f"expected texts of {self.text_length} tokens, got shape {tokens.shape}"
            )
        check_heads(self.hidden_size, self.num_heads)
        small = nn.initializers.normal(0.02)
        # The last row is what stands for no text.
        table = self.param("token", small, (self.num_tokens + 1, self.hidden_size), jnp.float32)
        position = self.param("position", small, (self.text_length, self.hidden_size), jnp.float32)
        h = jnp.take(table, jnp.where(tokens < 0, self.num_tokens, tokens), axis=0) + position
        for i in range(self.num_blocks):
            h = TransformerBlock(
                self.hidden_size,
                self.num_heads,
                self.causal,
                self.dtype,
                self.dropout_rate,
                name=f"block_{i}",
            )(h)
        return nn.LayerNorm(name="norm_out")(h.astype(jnp.float32))
