r"""What a network may estimate of a latent :math:`z = \alpha x + \sigma \epsilon`.

Whatever it is, it gives an estimate of the data and one of the noise, with
:math:`z = \alpha \hat x + \sigma \hat\epsilon`. Both are computed from the output directly,
without a division by a scale that vanishes, where there is a way: for the v of Salimans and Ho, the
velocity and EDM's output at all times; from noise, data is uncertain by as much as noise hides it,
and the other way round.

References:
    Salimans and Ho, arXiv:2202.00512; Karras et al., arXiv:2206.00364, section 5; Kingma and Gao,
    arXiv:2303.00848, appendix D, for the conversions.
"""

import dataclasses
import math
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.diffusion.process import LEAST_SCALE


class Estimate(NamedTuple):
    """What is estimated of a latent.

    Attributes:
        data: The data in it, ``[B, *event]``.
        noise: The noise in it, ``[B, *event]``.
    """

    data: Float[Array, "B *event"]
    noise: Float[Array, "B *event"]


@runtime_checkable
class Prediction(Protocol):
    """What a network estimates; scales broadcast against ``[B, *event]``."""

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """What the network is to estimate for data ``x`` under ``noise``."""
        ...

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        """Data and noise in ``z`` by an output of the network."""
        ...

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        r"""Log of how much :math:`\lVert\epsilon-\hat\epsilon\rVert^2` is of the output's error."""
        ...


def _log(scale: Array) -> Array:
    return jnp.log(jnp.maximum(scale, LEAST_SCALE))


@dataclasses.dataclass(frozen=True)
class Noise:
    r"""The noise :math:`\epsilon` (DDPM, VDM)."""

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """The noise."""
        return noise

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        r"""Data as :math:`(z - \sigma\hat\epsilon)/\alpha`."""
        return Estimate((z - sigma * out) / jnp.maximum(alpha, LEAST_SCALE), out)

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        """0: it is the noise's error."""
        return jnp.zeros_like(alpha)


@dataclasses.dataclass(frozen=True)
class Data:
    """The data ``x``."""

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """The data."""
        return x

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        r"""Noise as :math:`(z - \alpha\hat x)/\sigma`."""
        return Estimate(out, (z - alpha * out) / jnp.maximum(sigma, LEAST_SCALE))

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        """The log signal-to-noise ratio."""
        return 2.0 * (_log(alpha) - _log(sigma))


@dataclasses.dataclass(frozen=True)
class Score:
    r"""The score :math:`\nabla_z \log q(z) = -E[\epsilon \mid z]/\sigma`."""

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """The score of ``z`` given the data."""
        return -noise / jnp.maximum(sigma, LEAST_SCALE)

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        """Noise is minus the score times its scale."""
        return Noise().estimate(-sigma * out, z, alpha, sigma)

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        """The log of the noise's variance."""
        return 2.0 * _log(sigma)


@dataclasses.dataclass(frozen=True)
class V:
    r""":math:`v = \alpha\epsilon - \sigma x`, of Salimans and Ho.

    The scales need not preserve variance.
    """

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """Noise less data, each with the scale of the other."""
        return alpha * noise - sigma * x

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        """The two by a rotation of ``z`` and the output."""
        square = jnp.square(alpha) + jnp.square(sigma)
        return Estimate((alpha * z - sigma * out) / square, (sigma * z + alpha * out) / square)

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        """The log of alpha² over (alpha² + sigma²)²."""
        return 2.0 * (_log(alpha) - jnp.log(jnp.square(alpha) + jnp.square(sigma)))


@dataclasses.dataclass(frozen=True)
class Velocity:
    r"""The velocity :math:`\epsilon - x` of a straight path from data to noise.

    It is so of any process, of which it is the velocity only where the path is straight.
    """

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """Noise less data."""
        return noise - x

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        """The two as the solution of two equations."""
        total = alpha + sigma
        return Estimate((z - sigma * out) / total, (z + alpha * out) / total)

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        """The log of alpha² over (alpha + sigma)²."""
        return 2.0 * (_log(alpha) - jnp.log(alpha + sigma))


@dataclasses.dataclass(frozen=True)
class Preconditioned:
    r"""EDM's output: of unit variance, mixed with ``z`` so that its error counts least.

    With :math:`s^2 = \alpha^2\sigma_d^2 + \sigma^2` the data is
    :math:`\hat x = (\alpha\sigma_d^2 z + \sigma\sigma_d s F)/s^2`, which is EDM's
    :math:`c_{skip} z + c_{out} F` where :math:`\alpha = 1`.

    Attributes:
        sigma_data: Standard deviation of the data, :math:`\sigma_d`.

    References:
        Karras et al., arXiv:2206.00364, table 1 and appendix B.6.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not (self.sigma_data > 0 and math.isfinite(self.sigma_data)):
            raise ValueError(f"sigma_data must be a positive number, got {self.sigma_data}")

    def _norm(self, alpha: Array, sigma: Array) -> Array:
        return jnp.sqrt(jnp.square(alpha * self.sigma_data) + jnp.square(sigma))

    def target(self, x: Array, noise: Array, alpha: Array, sigma: Array) -> Array:
        """What makes the data's estimate exact."""
        # (x - c_skip z) / c_out without the difference, which would cancel at low noise.
        deviation = self.sigma_data
        return (sigma * x / deviation - alpha * deviation * noise) / self._norm(alpha, sigma)

    def estimate(self, out: Array, z: Array, alpha: Array, sigma: Array) -> Estimate:
        """Data and noise, both without a division by a small scale."""
        deviation, norm = self.sigma_data, self._norm(alpha, sigma)
        data = (alpha * deviation**2 * z / norm + sigma * deviation * out) / norm
        return Estimate(data, (sigma * z / norm - alpha * deviation * out) / norm)

    def log_noise_error(self, alpha: Array, sigma: Array) -> Array:
        """The log of (alpha sigma_data)² over the variance of ``z``."""
        return 2.0 * (_log(alpha * self.sigma_data) - jnp.log(self._norm(alpha, sigma)))


def input_scale(sigma_data: float, alpha: Array, sigma: Array) -> Array:
    r"""EDM's :math:`c_{in}`, which gives latents of any process unit variance.

    Args:
        sigma_data: Standard deviation of the data.
        alpha: Signal scale.
        sigma: Noise scale, of the same shape.

    Returns:
        :math:`1/\sqrt{\alpha^2\sigma_d^2 + \sigma^2}`, of the same shape.

    Example:
        >>> input_scale(0.5, jnp.array(1.0), jnp.array(0.0))
        Array(2., dtype=float32, weak_type=True)

    References:
        Karras et al., arXiv:2206.00364, table 1.
    """
    return 1.0 / jnp.sqrt(jnp.square(alpha * sigma_data) + jnp.square(sigma))
