"""Transformers that see the entries before: of images, text, codes."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.embeddings import LabelEmbedding, check_label
from genjax.nets.transformer import Cache, TransformerBlock, check_heads


class AutoregressiveTransformer(nn.Module):
    """A causal transformer over the entries of an example in raster order, as many tokens.

    Before the first entry there is a token of the label. Grey levels (or symbols, or codes) have
    learned vectors.

    Attributes:
        event_shape: Shape of one example.
        hidden_size: Width of a token.
        num_blocks: Number of transformer blocks.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        dropout_rate: Share of what blocks add that is dropped, in [0, 1); acts where an rng
            ``dropout`` is given.
        num_classes: Number of classes, or None for an unconditional model.
        num_levels: Number of levels of the data, or None for real numbers; the family's.
        num_outputs: Outputs for each entry; the family's.
        dtype: The precision of the trunk; first and last layers are float32.

    References:
        Radford et al., Language Models are Unsupervised Multitask Learners, 2019, for the block;
        Chen et al., Generative Pretraining from Pixels, 2020, for images.
    """

    event_shape: tuple[int, ...]
    hidden_size: int = 128
    num_blocks: int = 4
    num_heads: int = 4
    dropout_rate: float = 0.0
    num_classes: int | None = None
    num_levels: int | None = None
    num_outputs: int = 1
    dtype: Any = None

    @property
    def by_pixel(self) -> bool:
        """Each entry has outputs of its own."""
        return False

    @property
    def num_tokens(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    def setup(self) -> None:
        """Makes the layers."""
        check_heads(self.hidden_size, self.num_heads)
        small = nn.initializers.normal(0.02)
        if self.num_levels is None:
            self.value_in = nn.Dense(self.hidden_size)
        else:
            self.value = nn.Embed(self.num_levels, self.hidden_size, embedding_init=small)
        self.start = self.param("start", small, (self.hidden_size,))
        self.position = self.param("position", small, (self.num_tokens, self.hidden_size))
        if self.num_classes is not None:
            self.label = LabelEmbedding(self.num_classes, self.hidden_size)
        self.blocks = [
            TransformerBlock(self.hidden_size, self.num_heads, True, self.dtype, self.dropout_rate)
            for _ in range(self.num_blocks)
        ]
        self.norm_out = nn.LayerNorm()
        self.outputs = nn.Dense(self.num_outputs)

    def _embedded(self, entries: Array) -> Array:
        """Vectors of entries ``[B, T]``."""
        if self.num_levels is None:
            return self.value_in(entries.astype(jnp.float32)[..., None])
        return self.value(entries.astype(jnp.int32))

    def _first(self, label: Array | None, rows: int) -> Array:
        """The token before all entries, ``[B, hidden_size]``."""
        first = jnp.broadcast_to(self.start, (rows, self.hidden_size))
        return first if label is None else first + self.label(label)

    def __call__(
        self, x: Array, label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B *event P"]:
        """Looks at examples.

        Args:
            x: Whole levels or real numbers, ``[B, *event]``.
            label: Class ids, ``[B]``, of which a negative one means no label.

        Returns:
            Outputs of each entry that depend on the entries before it, ``[B, *event, P]``.

        Raises:
            ValueError: If labels or heads do not fit.
        """
        check_label(self.num_classes, label)
        entries = x.reshape(x.shape[0], -1)
        first = self._first(label, x.shape[0])[:, None]
        h = jnp.concatenate([first, self._embedded(entries[:, :-1])], axis=1) + self.position
        for block in self.blocks:
            h = block(h)
        outputs = self.outputs(self.norm_out(h).astype(jnp.float32))
        return outputs.reshape(*x.shape, self.num_outputs)

    @property
    def context_size(self) -> int:
        """Width of the vectors of :meth:`states`."""
        return self.hidden_size

    def states(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T W"]:
        """What the blocks make of a text, as a text encoder's vectors.

        The vector at a position is of the tokens before it, so that of texts that end in padding
        all is seen. It is the mean, over the embedding and what each block makes of it, of the
        vectors at a position brought to mean 0 and variance 1: the last block's alone says what
        comes next, and hardly which word has been.

        Args:
            tokens: Whole numbers, ``[B, T]``; a text of negative ones has vectors of zeros.

        Returns:
            Vectors, float32, ``[B, T, hidden_size]``.

        References:
            Peters et al., Deep Contextualized Word Representations, arXiv:1802.05365, section 3.2,
            for a mean over layers, each normalised.
        """
        label = None if self.num_classes is None else jnp.full(tokens.shape[0], -1)
        first = self._first(label, tokens.shape[0])[:, None]
        entries = self._embedded(jnp.maximum(tokens, 0)[:, :-1])
        h = jnp.concatenate([first, entries], axis=1) + self.position
        layers = [h]
        for block in self.blocks:
            layers.append(block(layers[-1]))
        h = jnp.mean(jnp.stack([_standardized(layer) for layer in layers]), axis=0)
        return jnp.where((tokens >= 0).all(axis=1)[:, None, None], h, 0.0)

    def empty_cache(self, batch_size: int) -> Cache:
        """A cache of no tokens yet, with room for all.

        Args:
            batch_size: Number of sequences.

        Returns:
            Keys and values of zeros.
        """
        heads = (self.num_heads, self.hidden_size // self.num_heads)
        shape = (batch_size, self.num_tokens, *heads)
        empty = tuple(jnp.zeros(shape, self.dtype or jnp.float32) for _ in range(self.num_blocks))
        return Cache(empty, empty)

    def step(
        self,
        entry: Array,
        index: Int[Array, ""],
        cache: Cache,
        label: Int[Array, " B"] | None = None,
    ) -> tuple[Float[Array, "B P"], Cache]:
        """Takes in the entry before ``index``, and gives the outputs of the one at it.

        Args:
            entry: The entry before, ``[B]``; at index 0 it is not looked at.
            index: Position in ``[0, num_tokens)``, ``[]``.
            cache: Keys and values of the tokens so far.
            label: Class ids, ``[B]``, or None.

        Returns:
            The outputs, ``[B, num_outputs]``, and the cache with one more token.
        """
        first = self._first(label, entry.shape[0])
        h = jnp.where(index == 0, first, self._embedded(entry[:, None])[:, 0])
        h = (h + self.position[index])[:, None]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            h, key, value = block.step(h, cache.keys[i], cache.values[i], index)
            keys.append(key)
            values.append(value)
        outputs = self.outputs(self.norm_out(h).astype(jnp.float32))[:, 0]
        return outputs, Cache(tuple(keys), tuple(values))


def _standardized(h: Array) -> Array:
    """Each vector with mean 0 and variance 1, float32."""
    h = h.astype(jnp.float32)
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-6)
