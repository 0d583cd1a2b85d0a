"""Transformers that see the entries before: of images, text, codes."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.embeddings import LabelEmbedding, check_label
from genjax.nets.transformer import Cache, TransformerBlock, check_heads


class CausalTransformer(nn.Module):
    """What causal transformers over the entries of an example have in common.

    What they are told is a few tokens before the entries, of which the last is the one that the
    first entry is predicted at. Entries come in raster order. Grey levels (or symbols, or codes)
    have learned vectors.

    Attributes:
        event_shape: Shape of one example.
        hidden_size: Width of a token.
        num_blocks: Number of transformer blocks.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        dropout_rate: Share of what blocks add that is dropped, in [0, 1); acts where an rng
            ``dropout`` is given.
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
    num_levels: int | None = None
    num_outputs: int = 1
    dtype: Any = None

    @property
    def by_pixel(self) -> bool:
        """Each entry has outputs of its own."""
        return False

    @property
    def num_entries(self) -> int:
        """Entries of an example."""
        return math.prod(self.event_shape)

    @property
    def num_before(self) -> int:
        """Tokens before the entries."""
        raise NotImplementedError

    def setup(self) -> None:
        """Makes the layers."""
        check_heads(self.hidden_size, self.num_heads)
        small = nn.initializers.normal(0.02)
        if self.num_levels is None:
            self.value_in = nn.Dense(self.hidden_size)
        else:
            self.value = nn.Embed(self.num_levels, self.hidden_size, embedding_init=small)
        self.start = self.param("start", small, (self.hidden_size,))
        places = self.num_before + self.num_entries - 1
        self.position = self.param("position", small, (places, self.hidden_size))
        self.blocks = [
            TransformerBlock(self.hidden_size, self.num_heads, True, self.dtype, self.dropout_rate)
            for _ in range(self.num_blocks)
        ]
        self.norm_out = nn.LayerNorm()
        self.outputs = nn.Dense(self.num_outputs)

    def before(self, told: Any, rows: int) -> Float[Array, "B P W"]:
        """The tokens before all entries, ``[B, num_before, hidden_size]``.

        Args:
            told: What the network is told.
            rows: Number of sequences.

        Returns:
            The tokens.
        """
        raise NotImplementedError

    def _embedded(self, entries: Array) -> Array:
        """Vectors of entries ``[B, T]``."""
        if self.num_levels is None:
            return self.value_in(entries.astype(jnp.float32)[..., None])
        return self.value(entries.astype(jnp.int32))

    def __call__(self, x: Array, told: Any = None) -> Float[Array, "B *event P"]:
        """Looks at examples.

        Args:
            x: Whole levels or real numbers, ``[B, *event]``.
            told: What the network is told: see :meth:`before`.

        Returns:
            Outputs of each entry that depend on the entries before it, ``[B, *event, P]``.

        Raises:
            ValueError: If what is told or heads do not fit.
        """
        entries = x.reshape(x.shape[0], -1)
        before = self.before(told, x.shape[0])
        h = jnp.concatenate([before, self._embedded(entries[:, :-1])], axis=1) + self.position
        for block in self.blocks:
            h = block(h)
        outputs = self.outputs(self.norm_out(h[:, self.num_before - 1 :]).astype(jnp.float32))
        return outputs.reshape(*x.shape, self.num_outputs)

    def empty_cache(self, batch_size: int, told: Any = None) -> Cache:
        """A cache of no entries yet, with room for all.

        Args:
            batch_size: Number of sequences.
            told: What the network is told.

        Returns:
            Keys and values of the tokens before the entries, but for the last, and of zeros.
        """
        room = self.num_before + self.num_entries - 1
        heads = (self.num_heads, self.hidden_size // self.num_heads)
        empty = jnp.zeros((batch_size, room, *heads), self.dtype or jnp.float32)
        taken_in = self.num_before - 1
        if not taken_in:
            return Cache((empty,) * self.num_blocks, (empty,) * self.num_blocks)
        keys, values = [], []
        h = self.before(told, batch_size)[:, :taken_in] + self.position[:taken_in]
        for block in self.blocks:
            h, key, value = block.taken_in(h)
            keys.append(jax.lax.dynamic_update_slice_in_dim(empty, key.astype(empty.dtype), 0, 1))
            values.append(
                jax.lax.dynamic_update_slice_in_dim(empty, value.astype(empty.dtype), 0, 1)
            )
        return Cache(tuple(keys), tuple(values))

    def step(
        self, entry: Array, index: Int[Array, ""], cache: Cache, told: Any = None
    ) -> tuple[Float[Array, "B P"], Cache]:
        """Takes in the entry before ``index``, and gives the outputs of the one at it.

        Args:
            entry: The entry before, ``[B]``; at index 0 it is not looked at.
            index: Position in ``[0, num_entries)``, ``[]``.
            cache: Keys and values of the tokens so far.
            told: What the network is told.

        Returns:
            The outputs, ``[B, num_outputs]``, and the cache with one more token.
        """
        place = index + self.num_before - 1
        first = self.before(told, entry.shape[0])[:, -1]
        h = jnp.where(index == 0, first, self._embedded(entry[:, None])[:, 0])
        h = (h + self.position[place])[:, None]
        keys, values = [], []
        for i, block in enumerate(self.blocks):
            h, key, value = block.step(h, cache.keys[i], cache.values[i], place)
            keys.append(key)
            values.append(value)
        outputs = self.outputs(self.norm_out(h).astype(jnp.float32))[:, 0]
        return outputs, Cache(tuple(keys), tuple(values))


class AutoregressiveTransformer(CausalTransformer):
    """A causal transformer after one token, of the label.

    Attributes:
        num_classes: Number of classes, or None for an unconditional model.
    """

    num_classes: int | None = None

    @property
    def num_before(self) -> int:
        """One token, of the label."""
        return 1

    def setup(self) -> None:
        """Makes the layers."""
        super().setup()
        if self.num_classes is not None:
            self.label = LabelEmbedding(self.num_classes, self.hidden_size)

    def before(self, told: Int[Array, " B"] | None, rows: int) -> Float[Array, "B 1 W"]:
        """The token before all entries.

        Args:
            told: Class ids, ``[B]``, of which a negative one means no label; None without classes.
            rows: Number of sequences.

        Returns:
            The token, ``[B, 1, hidden_size]``.

        Raises:
            ValueError: If labels do not fit.
        """
        check_label(self.num_classes, told)
        first = jnp.broadcast_to(self.start, (rows, 1, self.hidden_size))
        return first if told is None else first + self.label(told)[:, None]

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
        before = self.before(label, tokens.shape[0])
        entries = self._embedded(jnp.maximum(tokens, 0)[:, :-1])
        h = jnp.concatenate([before, entries], axis=1) + self.position
        layers = [h]
        for block in self.blocks:
            layers.append(block(layers[-1]))
        h = jnp.mean(jnp.stack([_standardized(layer) for layer in layers]), axis=0)
        return jnp.where((tokens >= 0).all(axis=1)[:, None, None], h, 0.0)


TOLD = ("tokens", "text_embedding")
"""What a :class:`PromptedTransformer` may be told."""


class PromptedTransformer(CausalTransformer):
    """A causal transformer after the tokens of a text, its embedding, or both.

    Before the entries stand the tokens of the text, its embedding and a learned token. What is not
    told (a negative token, an embedding of zeros) has vectors of its own.

    Of the codes of embeddings of images it is the autoregressive prior of unCLIP, without the token
    of how near image and text are; of the codes of images it is a text-to-image transformer.

    Attributes:
        reads: What it is told: ``tokens``, ``text_embedding`` or both.
        num_tokens: Number of tokens of the vocabulary; of a config that leaves it None, the data's.
        text_length: Tokens of a text; of a config that leaves it None, the data's.

    References:
        Ramesh et al., arXiv:2204.06125, section 2.2; Ramesh et al., Zero-Shot Text-to-Image
        Generation, arXiv:2102.12092, section 2.
    """

    reads: tuple[str, ...] = TOLD
    num_tokens: int | None = None
    text_length: int | None = None

    @property
    def num_before(self) -> int:
        """A learned token after those of the text."""
        return 1 + (self.text_length or 0) * ("tokens" in self.reads) + (TOLD[1] in self.reads)

    def setup(self) -> None:
        """Makes the layers."""
        if not self.reads or set(self.reads) - set(TOLD):
            raise ValueError(f"reads must name some of {', '.join(TOLD)}, got {self.reads}")
        if "tokens" in self.reads and (self.num_tokens is None or self.text_length is None):
            raise ValueError("a transformer that is told texts needs num_tokens and text_length")
        super().setup()
        if "tokens" in self.reads:
            # The last row is what stands for no text.
            small, count = nn.initializers.normal(0.02), (self.num_tokens or 0) + 1
            self.token = nn.Embed(count, self.hidden_size, embedding_init=small)
        if TOLD[1] in self.reads:
            # Without a bias an embedding of zeros is only a place: what is learned at it.
            self.text_in = nn.Dense(self.hidden_size, use_bias=False)

    def before(self, told: Mapping[str, Array] | None, rows: int) -> Float[Array, "B P W"]:
        """The tokens before all entries.

        Args:
            told: ``tokens``, ``[B, T]``, of which negative ones tell nothing, and
                ``text_embedding``, ``[B, E]``, of which zeros tell nothing, as ``reads`` names
                them.
            rows: Number of sequences.

        Returns:
            The tokens, ``[B, num_before, hidden_size]``.

        Raises:
            ValueError: If something is not told, or texts have another length.
        """
        missing = [name for name in self.reads if told is None or name not in told]
        if told is None or missing:
            raise ValueError(f"expected to be told {', '.join(self.reads)}: {missing} are missing")
        parts = []
        if "tokens" in self.reads:
            tokens = told["tokens"]
            if tokens.shape[1:] != (self.text_length,):
                raise ValueError(
                    f"expected texts of {self.text_length} tokens, got shape {tokens.shape}"
                )
            parts.append(self.token(jnp.where(tokens < 0, self.num_tokens or 0, tokens)))
        if TOLD[1] in self.reads:
            parts.append(self.text_in(told[TOLD[1]])[:, None])
        parts.append(jnp.broadcast_to(self.start, (rows, 1, self.hidden_size)))
        return jnp.concatenate(parts, axis=1)


def _standardized(h: Array) -> Array:
    """Each vector with mean 0 and variance 1, float32."""
    h = h.astype(jnp.float32)
    return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-6)
