"""Images, and texts, to vectors that are compared with each other."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.classifier import ConvClassifier
from genjax.nets.text_encoder import TextEncoder


class ImageTower(nn.Module):
    """The convolutions of a :class:`ConvClassifier`, and a linear projection of its features.

    Attributes:
        embedding_size: Length of a vector.
        channels: Channels of the first convolution, doubled at each halving.
        num_halvings: Number of times the resolution is halved.
        num_features: Width of the dense layer before the projection.

    References:
        Radford et al., arXiv:2103.00020, section 2.4, for a linear projection.
    """

    embedding_size: int = 64
    channels: int = 32
    num_halvings: int = 2
    num_features: int = 128

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B D"]:
        """Maps images in [-1, 1] to vectors.

        Args:
            x: Images, ``[B, H, W, C]``.

        Returns:
            Vectors of any length (whoever compares them divides by it), ``[B, embedding_size]``.

        Raises:
            ValueError: If the images are too small.
        """
        # What is called logits there is a linear projection of the features.
        embedding, _ = ConvClassifier(
            self.embedding_size,
            self.channels,
            self.num_halvings,
            self.num_features,
            name="convolutions",
        )(x)
        return embedding.astype(jnp.float32)


class TextTower(nn.Module):
    """A :class:`TextEncoder` and a linear projection of its vector at the last token.

    The last token of a caption is padding, which stands for its end, and sees all of its words; it
    is what CLIP takes, too. (A mean over tokens would have to be told which are padding.)

    Attributes:
        embedding_size: Length of a vector.
        num_tokens: Number of tokens of the vocabulary; of a config that leaves it None, the data's.
        text_length: Tokens of a text; of a config that leaves it None, the data's.
        hidden_size: Width of the transformer.
        num_blocks: Number of its blocks.
        num_heads: Number of attention heads; must divide ``hidden_size``.
        causal: Whether a token sees those up to itself only; the last sees all either way.
        dropout_rate: Share of what blocks add that is dropped in training, in [0, 1).
        dtype: The precision of the transformer; the vectors are float32.

    References:
        Radford et al., arXiv:2103.00020, section 2.4.
    """

    embedding_size: int = 64
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
        """Width of the vectors of :meth:`states`."""
        return self.hidden_size

    def setup(self) -> None:
        """Makes the layers."""
        self.encoder = TextEncoder(
            num_tokens=self.num_tokens,
            text_length=self.text_length,
            hidden_size=self.hidden_size,
            num_blocks=self.num_blocks,
            num_heads=self.num_heads,
            causal=self.causal,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
        )
        self.projection = nn.Dense(self.embedding_size, use_bias=False)

    def __call__(self, tokens: Int[Array, "B T"]) -> Float[Array, "B D"]:
        """Maps texts to vectors.

        Args:
            tokens: Whole numbers, of which negative ones tell nothing, ``[B, T]``.

        Returns:
            Vectors of any length, ``[B, embedding_size]``.

        Raises:
            ValueError: As of the encoder.
        """
        return self.projection(self.encoder(tokens)[:, -1])

    def states(self, tokens: Int[Array, "B T"]) -> Float[Array, "B T W"]:
        """The encoder's vectors of all tokens, for a model of images that is told texts.

        Args:
            tokens: Whole numbers, ``[B, T]``; a text of negative ones, which a trained tower has
                never seen, has vectors of zeros.

        Returns:
            Vectors, float32, ``[B, T, hidden_size]``.
        """
        h = self.encoder(tokens)
        if self.is_initializing():  # a trained tower is held with all of its variables
            self.projection(h[:, -1])
        told = (tokens >= 0).all(axis=1)[:, None, None]
        return jnp.where(told, h, 0.0)
