"""A transformer that makes embeddings of images from texts, one network of a diffusion model."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.embeddings import check_conditioning, gamma_embedding
from genjax.nets.transformer import TransformerBlock, check_heads


class PriorTransformer(nn.Module):
    """Predicts the embedding of an image, or its noise, from a noisy one and a text.

    A causal transformer over the tokens of the text, the embedding of the text, the time, the noisy
    embedding and a learned query, in this order; the prediction is made at the query, which sees
    all. What is not told (a negative token, an embedding of zeros) has vectors of its own.

    Attributes:
        num_tokens: Number of tokens of the vocabulary; of a config that leaves it None, the data's.
        text_length: Tokens of a text; of a config that leaves it None, the data's.
        hidden_size: Width of a vector.
        num_blocks: Number of transformer blocks.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        dropout_rate: Share of what blocks add that is dropped in training, in [0, 1).
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        dtype: The precision of the transformer; the prediction is float32.

    References:
        Ramesh et al., Hierarchical Text-Conditional Image Generation with CLIP Latents,
        arXiv:2204.06125, section 2.2.
    """

    num_tokens: int | None = None
    text_length: int | None = None
    hidden_size: int = 128
    num_blocks: int = 4
    num_heads: int = 4
    dropout_rate: float = 0.0
    gamma_min: float = -13.3
    gamma_max: float = 5.0
    dtype: Any = None

    @property
    def event_rank(self) -> int:
        """Axes of one example: the entries of an embedding."""
        return 1

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told."""
        return ("tokens", "text_embedding")

    @nn.compact
    def __call__(
        self,
        z_t: Float[Array, "B D"],
        gamma_t: Float[Array, " B"],
        told: Mapping[str, Array],
        *,
        deterministic: bool = True,
    ) -> Float[Array, "B D"]:
        """Estimates what the network is trained to.

        Args:
            z_t: Noisy embeddings of images, ``[B, D]``.
            gamma_t: Negative log signal-to-noise ratio, or any other measure of noise that
                ``gamma_min`` and ``gamma_max`` fit, ``[B]``.
            told: ``tokens``, ``[B, T]``, of which negative ones tell nothing, and
                ``text_embedding``, ``[B, E]``, of which zeros tell nothing.
            deterministic: Has no effect: dropout acts where an rng ``dropout`` is given.

        Returns:
            The estimate, float32, ``[B, D]``.

        Raises:
            ValueError: If sizes are missing, shapes do not fit, or heads do not divide the width.
        """
        del deterministic
        if self.num_tokens is None or self.text_length is None:
            raise ValueError("a prior of texts needs num_tokens and text_length")
        tokens, vector = told["tokens"], told["text_embedding"]
        if z_t.ndim != 2:
            raise ValueError(f"expected embeddings [B, D], got shape {z_t.shape}")
        if tokens.shape[1:] != (self.text_length,):
            raise ValueError(
                f"expected texts of {self.text_length} tokens, got shape {tokens.shape}"
            )
        check_conditioning(self.gamma_min, self.gamma_max, None, None)
        check_heads(self.hidden_size, self.num_heads)
        width, small = self.hidden_size, nn.initializers.normal(0.02)
        # The last row is what stands for no text.
        table = self.param("token", small, (self.num_tokens + 1, width), jnp.float32)
        text = jnp.take(table, jnp.where(tokens < 0, self.num_tokens, tokens), axis=0)
        time = gamma_embedding(gamma_t, self.gamma_min, self.gamma_max, width)
        query = self.param("query", small, (width,), jnp.float32)
        # Without a bias an embedding of zeros is only a place: what is learned at it.
        parts = [
            text,
            nn.Dense(width, use_bias=False, name="text_in")(vector)[:, None],
            nn.Dense(width, name="time_in")(time)[:, None],
            nn.Dense(width, name="dense_in")(z_t)[:, None],
            jnp.broadcast_to(query, (z_t.shape[0], 1, width)),
        ]
        h = jnp.concatenate(parts, axis=1)
        h = h + self.param("position", small, h.shape[1:], jnp.float32)
        for i in range(self.num_blocks):
            h = TransformerBlock(
                width, self.num_heads, True, self.dtype, self.dropout_rate, name=f"block_{i}"
            )(h)
        last = nn.LayerNorm(name="norm_out")(h[:, -1].astype(jnp.float32))
        return nn.Dense(z_t.shape[-1], name="dense_out")(last)
