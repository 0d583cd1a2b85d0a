"""Maps that change shape or range without parameters."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.bijectors.base import Bijector, Context, Kept
from genjax.bijectors.elementwise import at_least_float32, sum_event


class Squeeze(Bijector):
    """Moves blocks of pixels into channels: ``[B, H, W, C]`` to ``[B, H/f, W/f, f^2 C]``.

    Channels come out pixel by pixel: those of the upper left pixel first.

    Attributes:
        factor: Side of a block in pixels, ``f``.

    References:
        Dinh et al., arXiv:1605.08803, section 3.6.
    """

    factor: int = 2

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> tuple[Float[Array, "B *mapped"], Float[Array, " B"]]:
        """Moves blocks of pixels into channels.

        Raises:
            ValueError: If the factor does not divide height and width.
        """
        f = self.factor
        if x.ndim != 4 or x.shape[1] % f or x.shape[2] % f:
            raise ValueError(
                f"a squeeze by {f} needs images [B, H, W, C] whose height and width it divides, "
                f"got shape {x.shape}"
            )
        # Each side is cut into (block, place in the block); both places go before the channels.
        rows, height, width, channels = x.shape
        x = x.reshape(rows, height // f, f, width // f, f, channels).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(rows, height // f, width // f, f * f * channels), jnp.zeros(rows)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> tuple[Float[Array, "B *mapped"], Float[Array, " B"]]:
        """Spreads channels over pixels again.

        Raises:
            ValueError: If the number of channels is not a multiple of the factor squared.
        """
        f = self.factor
        if y.ndim != 4 or y.shape[3] % (f * f):
            raise ValueError(f"expected images [B, H, W, {f * f} C], got shape {y.shape}")
        rows, height, width, channels = y.shape
        channels //= f * f
        y = y.reshape(rows, height, width, f, f, channels).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(rows, f * height, f * width, channels), jnp.zeros(rows)


class Reshape(Bijector):
    """Another shape for the same entries in the same order.

    Attributes:
        event_in: Shape of an event that comes in, without the batch.
        event_out: Shape of an event that goes out, with as many entries.
    """

    event_in: tuple[int, ...]
    event_out: tuple[int, ...]

    def _reshape(
        self, x: Float[Array, "B *event"], before: tuple[int, ...], after: tuple[int, ...]
    ) -> tuple[Float[Array, "B *mapped"], Float[Array, " B"]]:
        if x.shape[1:] != before:
            raise ValueError(f"expected events of shape {before}, got {x.shape[1:]}")
        return x.reshape(x.shape[0], *after), jnp.zeros(x.shape[0])

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> tuple[Float[Array, "B *mapped"], Float[Array, " B"]]:
        """Gives events the new shape."""
        return self._reshape(x, self.event_in, self.event_out)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> tuple[Float[Array, "B *mapped"], Float[Array, " B"]]:
        """Gives events the old shape."""
        return self._reshape(y, self.event_out, self.event_in)


class Affine(Bijector):
    """A fixed scale and shift, the same for all entries: :math:`y = a x + b`.

    Attributes:
        scale: The scale ``a``, not 0.
        shift: The shift ``b``.
    """

    scale: float = 1.0
    shift: float = 0.0

    def _log_det(self, x: Float[Array, "B ..."]) -> Float[Array, " B"]:
        if not self.scale:
            raise ValueError("the scale must not be 0")
        return jnp.full(x.shape[0], math.prod(x.shape[1:]) * math.log(abs(self.scale)))

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Scales and shifts."""
        return self.scale * at_least_float32(x) + self.shift, self._log_det(x)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Shifts and scales back."""
        return (at_least_float32(y) - self.shift) / self.scale, -self._log_det(y)


class Sigmoid(Bijector):
    """The logistic function, from the real line to (0, 1)."""

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps to (0, 1)."""
        # The slope is sigmoid(x) sigmoid(-x), whose log neither under- nor overflows by softplus.
        x = at_least_float32(x)
        return jax.nn.sigmoid(x), -sum_event(jax.nn.softplus(x) + jax.nn.softplus(-x))

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps back; what is not inside (0, 1) comes out infinite or NaN."""
        y = at_least_float32(y)
        # Both the value and the slope 1 / (y (1 - y)) by the logs of y and 1 - y.
        x = jnp.log(y) - jnp.log1p(-y)
        return x, -sum_event(jnp.log(y) + jnp.log1p(-y))


class Tanh(Bijector):
    """The hyperbolic tangent, from the real line to (-1, 1)."""

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps to (-1, 1)."""
        x = at_least_float32(x)
        # The log of 1 - tanh(x)^2 as 2 (log 2 - x - softplus(-2x)), which does not cancel.
        return jnp.tanh(x), sum_event(2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x)))

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps back; what is not inside (-1, 1) comes out infinite or NaN."""
        y = at_least_float32(y)
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

    def forward_and_log_det(
        self, x: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps to the real line.

        Raises:
            ValueError: If ``alpha`` is not in (0, 0.5), or, outside of ``jit``, if data lie so far
                from [0, 1] that they have no logit; inside they become NaN.
        """
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha must be in (0, 0.5), got {self.alpha}")
        if not isinstance(x, jax.core.Tracer):
            _check_domain(np.asarray(x), self.alpha / (1.0 - 2.0 * self.alpha))
        x = at_least_float32(x)
        # Both ends with the same precision.
        log_inner = jnp.log(self.alpha + (1.0 - 2.0 * self.alpha) * x)
        log_rest = jnp.log(self.alpha + (1.0 - 2.0 * self.alpha) * (1.0 - x))
        # dy/dx = (1 - 2 alpha) / (p (1 - p)) at p = alpha + (1 - 2 alpha) x.
        slope = math.log1p(-2.0 * self.alpha) - log_inner - log_rest
        return log_inner - log_rest, sum_event(slope)

    def inverse_and_log_det(
        self, y: Float[Array, "B *event"], context: Context | None = None
    ) -> Kept:
        """Maps back to what lies around [0, 1]."""
        y = at_least_float32(y)
        x = (jax.nn.sigmoid(y) - self.alpha) / (1.0 - 2.0 * self.alpha)
        slope = -math.log1p(-2.0 * self.alpha) - jax.nn.softplus(y) - jax.nn.softplus(-y)
        return x, sum_event(slope)


def _check_domain(x: Float[np.ndarray, "..."], margin: float) -> None:
    """Refuses values that have no logit."""
    low, high = float(np.min(x)), float(np.max(x))
    if low < -margin or high > 1.0 + margin:
        raise ValueError(
            f"the logit is for data in [0, 1], got values from {low:.4g} to {high:.4g}; scale the "
            "data, or build the flow without it"
        )
