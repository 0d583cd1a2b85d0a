"""Networks that are told texts, and embeddings of the images that they are to make."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class EmbeddingContext(nn.Module):
    """An embedding as vectors of a context, beside those of a text.

    The embedding is also added to what a network is told of the time, with or without these.

    Attributes:
        num_tokens: Number of vectors; 4 are published, None for none.
        text_dropout_rate: Share of texts that are left out in training, beyond those of rows that
            are told nothing, in [0, 1): networks then do without a text where they are told an
            embedding. Published are texts dropped from half of the rows and embeddings from a tenth
            of them.
        context_size: Width of a vector; None for that of the vectors of the text.

    References:
        Ramesh et al., arXiv:2204.06125, section 2.1.
    """

    num_tokens: int | None = None
    text_dropout_rate: float = 0.0
    context_size: int | None = None

    @nn.compact
    def __call__(self, embedding: Float[Array, "B D"]) -> Float[Array, "B T K"]:
        """Maps embeddings, of which zeros tell nothing, to vectors.

        Args:
            embedding: The embeddings, ``[B, D]``.

        Returns:
            Vectors, ``[B, num_tokens, context_size]``.

        Raises:
            ValueError: If number or width are missing.
        """
        if self.num_tokens is None or self.context_size is None:
            raise ValueError(
                "vectors of an embedding need num_tokens, and a width: give "
                "model.embedding.context_size, or a text"
            )
        shape = (self.num_tokens, self.context_size)
        position = self.param("position", nn.initializers.normal(0.02), shape, jnp.float32)
        made = nn.Dense(self.num_tokens * self.context_size, use_bias=False, name="dense")(
            embedding
        )
        return made.reshape(-1, *shape) + position


class Prompted(nn.Module):
    """A network that is told texts, through a text encoder, embeddings, or both.

    It attends to the vectors of a text, and their mean, as the embedding, is added to what it is
    told of the time: what an image is of as a whole is learned sooner so.

    Attributes:
        net: Module ``(z, t, label, context, ..., vector=...) -> output`` with attention to a
            context of vectors, ``[B, T, K]``; ``vector`` ``[B, V]`` is of the example as a whole.
        text: Module ``tokens [B, T] -> vectors [B, T, K]``; None for no texts.
        embedding: How it is told the ``embedding`` of a batch; None for none.

    References:
        Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models,
        arXiv:2112.10752, section 3.3.
        Saharia et al., arXiv:2205.11487, section 2.3, for the mean beside attention.
        Ramesh et al., arXiv:2204.06125, section 2.1, for embeddings.
    """

    net: nn.Module
    text: nn.Module | None = None
    embedding: EmbeddingContext | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Features of a batch that the network is told."""
        told = {
            "label": self.num_classes is not None,
            "tokens": self.text is not None,
            "embedding": self.embedding is not None,
        }
        return tuple(name for name, is_told in told.items() if is_told)

    @property
    def num_classes(self) -> int | None:
        """Number of classes it is told, besides."""
        return getattr(self.net, "num_classes", None)

    @property
    def event_rank(self) -> int | None:
        """Axes of one example, if the network says so."""
        return getattr(self.net, "event_rank", None)

    @property
    def bottleneck_shape(self) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
        """That of the network, if it has a middle."""
        found: Callable[[tuple[int, ...]], tuple[int, ...]] = self.net.bottleneck_shape
        return found

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "B *event"],
        t: Float[Array, " B"],
        told: Mapping[str, Array],
        **kwargs: Any,
    ) -> Array:
        """What the network says of latents.

        Args:
            z: Latents, ``[B, *event]``.
            t: Their noise, ``[B]``.
            told: ``tokens``, ``[B, T]``, ``embedding``, ``[B, D]``, and ``label``, ``[B]``, as far
                as the network is told them. Whole numbers of -1 and vectors of zeros tell nothing.
            **kwargs: Further arguments of the network.

        Returns:
            The network's output.
        """
        context, whole = [], []
        if self.text is not None:
            context.append(self.text(self._tokens(told["tokens"], **kwargs)))
            whole.append(context[0].mean(axis=1))
        if self.embedding is not None:
            whole.append(told["embedding"])
            if self.embedding.num_tokens:
                context.append(self.embedding(told["embedding"]))
        joined = jnp.concatenate(context, axis=1) if context else None
        vector = jnp.concatenate(whole, axis=-1)
        return cast(Array, self.net(z, t, told.get("label"), joined, vector=vector, **kwargs))

    def _tokens(self, tokens: Array, deterministic: bool = True, **_: Any) -> Array:
        """The texts, some of which are left out in training."""
        share = 0.0 if self.embedding is None else self.embedding.text_dropout_rate
        if not share or deterministic or not self.has_rng("dropout"):
            return tokens
        dropped = jax.random.uniform(self.make_rng("dropout"), tokens.shape[:1]) < share
        return jnp.where(dropped[:, None], -1, tokens)
