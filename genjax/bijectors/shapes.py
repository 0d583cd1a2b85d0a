"""Maps that change shape or range without parameters."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from genjax.bijectors.base import Bijector, Mapped
from genjax.bijectors.elementwise import sum_event


class Squeeze(Bijector):
    """Moves blocks of 2x2 pixels into channels: ``[B, H, W, C]`` to ``[B, H/2, W/2, 4 C]``.

    Channels come out pixel by pixel: those of the upper left pixel first.

    References:
        Dinh et al., arXiv:1605.08803, section 3.6.
    """

    def forward_and_log_det(self, x: Array, context: Array | None = None) -> Mapped:
        """Squeezes.

        Raises:
            ValueError: If the height or the width is odd.
        """
        if x.ndim != 4 or x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(f"expected images [B, H, W, C] of even size, got shape {x.shape}")
        rows, height, width, channels = x.shape
        x = x.reshape(rows, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(rows, height // 2, width // 2, 4 * channels), jnp.zeros(rows)

    def inverse_and_log_det(self, y: Array, context: Array | None = None) -> Mapped:
        """Spreads channels over pixels again.

        Raises:
            ValueError: If the number of channels is not a multiple of 4.
        """
        if y.ndim != 4 or y.shape[3] % 4:
            raise ValueError(f"expected images [B, H, W, 4 C], got shape {y.shape}")
        rows, height, width, channels = y.shape
        y = y.reshape(rows, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(rows, 2 * height, 2 * width, channels // 4), jnp.zeros(rows)


class Sigmoid(Bijector):
    """The logistic function, from the real line to (0, 1)."""

    def forward_and_log_det(self, x: Array, context: Array | None = None) -> Mapped:
        """Maps to (0, 1)."""
        return jax.nn.sigmoid(x), -sum_event(jax.nn.softplus(x) + jax.nn.softplus(-x))

    def inverse_and_log_det(self, y: Array, context: Array | None = None) -> Mapped:
        """Maps back; what is not inside (0, 1) comes out infinite or NaN."""
        x = jnp.log(y) - jnp.log1p(-y)
        return x, -sum_event(jnp.log(y) + jnp.log1p(-y))


class Tanh(Bijector):
    """The hyperbolic tangent, from the real line to (-1, 1)."""

    def forward_and_log_det(self, x: Array, context: Array | None = None) -> Mapped:
        """Maps to (-1, 1)."""
        # log(1 - tanh^2), without its cancellation.
        return jnp.tanh(x), sum_event(2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x)))

    def inverse_and_log_det(self, y: Array, context: Array | None = None) -> Mapped:
        """Maps back; what is not inside (-1, 1) comes out infinite or NaN."""
        return jnp.arctanh(y), -sum_event(jnp.log1p(-jnp.square(y)))


class Logit(Bijector):
    r"""Maps [0, 1] to the real line: :math:`y = \mathrm{logit}(\alpha + (1 - 2\alpha) x)`.

    The usual transform of dequantised pixels; its log-determinant belongs to the model's.

    Attributes:
        alpha: Distance that is kept from 0 and 1. (Real NVP's own form,
            :math:`\alpha + (1-\alpha) x`, keeps it from 0 only.)

    References:
        Dinh et al., arXiv:1605.08803, section 4.1; in this form Papamakarios et al.,
        arXiv:1705.07057, appendix E.2.
    """

    alpha: float = 0.05

    def forward_and_log_det(self, x: Array, context: Array | None = None) -> Mapped:
        """Maps to the real line."""
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha must be in (0, 0.5), got {self.alpha}")
        inner = self.alpha + (1.0 - 2.0 * self.alpha) * x
        log_inner, log_rest = jnp.log(inner), jnp.log1p(-inner)
        slope = math.log1p(-2.0 * self.alpha) - log_inner - log_rest
        return log_inner - log_rest, sum_event(slope)

    def inverse_and_log_det(self, y: Array, context: Array | None = None) -> Mapped:
        """Maps back to what lies around [0, 1]."""
        x = (jax.nn.sigmoid(y) - self.alpha) / (1.0 - 2.0 * self.alpha)
        slope = -math.log1p(-2.0 * self.alpha) - jax.nn.softplus(y) - jax.nn.softplus(-y)
        return x, sum_event(slope)
