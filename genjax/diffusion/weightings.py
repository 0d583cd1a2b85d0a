r"""How much the noise's squared error counts at each time.

Every loss of a denoising model is :math:`E\, w(t) \lVert\epsilon - \hat\epsilon\rVert^2` for some
weighting, whatever its network estimates. Weightings are given as logarithms, which stay finite
where a weight vanishes and the error it is of does not.

References:
    Kingma and Gao, Understanding Diffusion Objectives, arXiv:2303.00848, sections 2 and 3.
"""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.diffusion.process import LEAST_SCALE


def _log_half(slope: Array) -> Array:
    """The log of half a slope, finite where rounding leaves nothing of it or less."""
    return jnp.log(0.5 * jnp.maximum(slope, LEAST_SCALE))


@runtime_checkable
class Weighting(Protocol):
    """A weight of the noise's squared error."""

    def log_weight(
        self, gamma_t: Float[Array, " B"], gamma_slope_t: Float[Array, " B"]
    ) -> Float[Array, " B"]:
        """Its logarithm, from minus the log signal-to-noise ratio and the slope of that in time."""
        ...


@dataclasses.dataclass(frozen=True)
class Simple:
    """1: the loss of DDPM, which counts high noise more than the bound.

    References:
        Ho et al., arXiv:2006.11239, eq. 14.
    """

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """0."""
        return jnp.zeros_like(gamma_t)


@dataclasses.dataclass(frozen=True)
class Bound:
    r""":math:`\gamma'(t)/2`: the variational bound, and likelihood weighting of the score.

    References:
        Kingma et al., arXiv:2107.00630, eq. 17; Song et al., arXiv:2101.09258, eq. 7, with
        :math:`g^2 = \sigma^2\gamma'`.
    """

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """The log of half the slope."""
        return _log_half(gamma_slope_t)


@dataclasses.dataclass(frozen=True)
class DataError:
    r""":math:`\sigma^2/\alpha^2`: the squared error of the data."""

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """Gamma itself."""
        return gamma_t


@dataclasses.dataclass(frozen=True)
class VError:
    r""":math:`1 + \sigma^2/\alpha^2`: the squared error of v, of a variance-preserving process.

    References:
        Salimans and Ho, arXiv:2202.00512, section 4 ("SNR + 1" weighting of the data's error).
    """

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """The log of one plus the noise-to-signal ratio."""
        return jax.nn.softplus(gamma_t)


@dataclasses.dataclass(frozen=True)
class VelocityError:
    r""":math:`(1 + \sigma/\alpha)^2`: the squared error of the velocity of a straight path.

    References:
        Lipman et al., arXiv:2210.02747, eq. 23.
    """

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """Twice the log of one plus sigma over alpha."""
        return 2.0 * jax.nn.softplus(0.5 * gamma_t)


@dataclasses.dataclass(frozen=True)
class MinSNR:
    r""":math:`\min(\mathrm{SNR}, k)/\mathrm{SNR}`.

    Attributes:
        snr_max: Signal-to-noise ratio ``k`` from which on the data's error counts by a constant.

    References:
        Hang et al., arXiv:2303.09556, section 3.4.
    """

    snr_max: float = 5.0

    def __post_init__(self) -> None:
        if not self.snr_max > 0:
            raise ValueError(f"snr_max must be positive, got {self.snr_max}")

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """0 at high noise, then as the noise-to-signal ratio."""
        return jnp.minimum(0.0, math.log(self.snr_max) + gamma_t)


@dataclasses.dataclass(frozen=True)
class Sigmoid:
    r""":math:`\gamma'(t)\,\mathrm{sigmoid}(b + \gamma)/2`: the bound, less of what eye cannot see.

    Attributes:
        bias: ``b``: the weight in the bound is a half where the log signal-to-noise ratio is ``b``.

    References:
        Kingma and Gao, arXiv:2303.00848, section 5; Hoogeboom et al., arXiv:2410.19324, eq. 6.
    """

    bias: float = 2.0

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """That of the bound and the log of the sigmoid."""
        return jax.nn.log_sigmoid(self.bias + gamma_t) + _log_half(gamma_slope_t)


@dataclasses.dataclass(frozen=True)
class EDM:
    r""":math:`1 + \sigma^2/(\alpha\sigma_d)^2`: unit weight of the preconditioned output's error.

    Attributes:
        sigma_data: Standard deviation of the data, :math:`\sigma_d`.

    References:
        Karras et al., arXiv:2206.00364, table 1: :math:`\lambda(\sigma)` of the data's error.
    """

    sigma_data: float = 0.5

    def log_weight(self, gamma_t: Array, gamma_slope_t: Array) -> Array:
        """The log of one plus the noise-to-signal ratio of the data itself."""
        return jax.nn.softplus(gamma_t - 2.0 * math.log(self.sigma_data))
