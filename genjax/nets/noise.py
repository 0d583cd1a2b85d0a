"""Gaussian noise between layers, a regulariser of small labelled sets."""

import flax.linen as nn
import jax
from jaxtyping import Array, Float


class GaussianNoise(nn.Module):
    """Adds Gaussian noise where an rng ``dropout`` is given, in training.

    Attributes:
        std: Standard deviation of the noise, not negative.
    """

    std: float

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The input with noise, or as it is."""
        if self.std < 0.0:
            raise ValueError(f"the noise must not be negative, got a deviation of {self.std}")
        if not self.std or not self.has_rng("dropout"):
            return x
        return x + self.std * jax.random.normal(self.make_rng("dropout"), x.shape, x.dtype)
