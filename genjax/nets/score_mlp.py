"""A score network for points: rows of a table or samples of a two-dimensional density."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.embeddings import (
    LabelEmbedding,
    check_conditioning,
    fourier_features,
    gamma_embedding,
)

_ZEROS = nn.initializers.zeros_init()


class ScoreMLP(nn.Module):
    """Residual multilayer perceptron that predicts the noise in ``z_t``.

    Attributes:
        hidden_size: Width of every layer.
        num_layers: Number of residual layers.
        fourier_exponents: Exponents of the Fourier features of ``z_t``; () for none.
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        num_classes: Number of class labels, or None for an unconditional model.
    """

    hidden_size: int = 128
    num_layers: int = 4
    fourier_exponents: Sequence[int] = (-2, -1, 0)
    gamma_min: float = -13.3
    gamma_max: float = 5.0
    num_classes: int | None = None

    @property
    def event_rank(self) -> int:
        """Axes of one example: its coordinates."""
        return 1

    @nn.compact
    def __call__(
        self,
        z_t: Float[Array, "B D"],
        gamma_t: Float[Array, " B"],
        label: Int[Array, " B"] | None = None,
        *,
        deterministic: bool = True,
    ) -> Float[Array, "B D"]:
        """Estimates the noise.

        Args:
            z_t: Latent, ``[B, D]``.
            gamma_t: Negative log signal-to-noise ratio, ``[B]``.
            label: Class ids, ``[B]``, -1 for no label; needed if and only if ``num_classes`` is
                set.
            deterministic: Has no effect: there is no dropout.

        Returns:
            ``noise_hat``, float32, ``[B, D]``.

        Raises:
            ValueError: If ranks or labels do not fit.
        """
        del deterministic
        if z_t.ndim != 2:
            raise ValueError(f"expected points [B, D], got shape {z_t.shape}")
        check_conditioning(self.gamma_min, self.gamma_max, self.num_classes, label)
        embedding = gamma_embedding(gamma_t, self.gamma_min, self.gamma_max, self.hidden_size)
        condition = nn.swish(nn.Dense(self.hidden_size, name="condition")(embedding))
        if label is not None:
            assert self.num_classes is not None
            condition += LabelEmbedding(self.num_classes, self.hidden_size, name="label")(label)

        exponents = tuple(self.fourier_exponents)
        features = jnp.concatenate([z_t, fourier_features(z_t, exponents)], axis=-1)
        h = nn.Dense(self.hidden_size, name="dense_in")(features)
        for i in range(self.num_layers):
            r = nn.swish(nn.LayerNorm(name=f"norm_{i}")(h))
            r = nn.Dense(self.hidden_size, name=f"dense_{i}_0")(r)
            r = nn.swish(r + nn.Dense(self.hidden_size, name=f"condition_{i}")(condition))
            h += nn.Dense(self.hidden_size, kernel_init=_ZEROS, name=f"dense_{i}_1")(r)
        # The last layer starts at zero: the first estimate of the noise is z_t itself, which at
        # high noise is nearly right.
        h = nn.swish(nn.LayerNorm(name="norm_out")(h))
        return z_t + nn.Dense(z_t.shape[-1], kernel_init=_ZEROS, name="dense_out")(h)
