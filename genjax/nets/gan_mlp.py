"""Generator and critic for points: rows of a table or samples of a two-dimensional density."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.conditioning import CriticHead, LabelledInput, LabelledLatent, apply_layer


class MLPGenerator(nn.Module):
    """Multilayer perceptron from latents to points.

    Attributes:
        event_shape: Shape of a point, ``(D,)``.
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers.
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: How labels enter: see :class:`~genjax.nets.conditioning.LabelledLatent`.
    """

    event_shape: tuple[int, ...]
    hidden_size: int = 128
    num_layers: int = 3
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding"] = "embedding"

    @property
    def event_rank(self) -> int:
        """Axes of one example: its coordinates."""
        return 1

    @nn.compact
    def __call__(
        self,
        latent: Float[Array, "B Z"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "B D"]:
        """Generates points.

        Args:
            latent: Draws of the latent distribution, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Has no effect: nothing is normalised.

        Returns:
            Points, ``[B, D]``.

        Raises:
            ValueError: If labels do not fit.
        """
        del train
        h = LabelledLatent(self.num_classes, self.conditioning, name="condition")(latent, label)
        for i in range(self.num_layers):
            h = nn.relu(nn.Dense(self.hidden_size, name=f"dense_{i}")(h))
        return nn.Dense(self.event_shape[0], name="dense_out")(h)


class MLPCritic(nn.Module):
    """Multilayer perceptron from points to a score.

    Attributes:
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers.
        num_outputs: Length of the output (features of an MMD GAN), or None for one number a row.
        spectral_norm: Whether to normalise the weights of every layer.
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: How labels enter: see :class:`~genjax.nets.conditioning.LabelledInput` and,
            for ``"projection"``, :class:`~genjax.nets.conditioning.CriticHead`.
    """

    hidden_size: int = 128
    num_layers: int = 3
    num_outputs: int | None = None
    spectral_norm: bool = False
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding", "projection"] = "projection"

    @property
    def event_rank(self) -> int:
        """Axes of one example: its coordinates."""
        return 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B D"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Array:
        """Scores points.

        Args:
            x: Points, ``[B, D]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Whether spectral normalisation moves its power iterations on.

        Returns:
            Outputs, ``[B]``, or ``[B, num_outputs]``.

        Raises:
            ValueError: If ranks or labels do not fit.
        """
        if x.ndim != 2:
            raise ValueError(f"expected points [B, D], got shape {x.shape}")
        h = LabelledInput(self.num_classes, self.conditioning, name="condition")(x, label)
        for i in range(self.num_layers):
            name = f"dense_{i}"
            dense = nn.Dense(self.hidden_size, name=name)
            h = apply_layer(dense, h, spectral_norm=self.spectral_norm, train=train, name=name)
            h = nn.leaky_relu(h, 0.2)
        head = CriticHead(
            self.num_outputs, self.num_classes, self.conditioning, self.spectral_norm, name="head"
        )
        return head(h, h, label, train=train).astype(jnp.float32)
