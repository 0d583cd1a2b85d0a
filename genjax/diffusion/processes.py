r"""The processes of published models, as values.

References:
    Ho et al., Denoising Diffusion Probabilistic Models, arXiv:2006.11239; Nichol and Dhariwal,
    arXiv:2102.09672; Song et al., Score-Based Generative Modeling through Stochastic Differential
    Equations, arXiv:2011.13456; Karras et al., arXiv:2206.00364; Liu et al., arXiv:2209.03003.
"""

import dataclasses
import functools
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from genjax.diffusion.process import LEAST_LAM, Scales

Betas = Literal["linear", "scaled_linear", "cosine", "sigmoid", "constant"]


class _Continuous:
    """What processes of continuous time share."""

    earliest: float

    def times_of(self, shares: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Times from the earliest to 1, uniform where the shares are."""
        return self.earliest + (1.0 - self.earliest) * shares


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariancePreserving(_Continuous):
    r"""The continuous limit of DDPM: noise is added at a rate :math:`\beta(t)` linear in time.

    :math:`\log \alpha_t = -\frac14 t^2 (\beta_1 - \beta_0) - \frac12 t \beta_0` and
    :math:`\sigma^2 = 1 - \alpha^2`.

    Attributes:
        beta_min: Rate at time 0.
        beta_max: Rate at time 1.
        earliest: Least time at which the network is asked.

    References:
        Song et al., arXiv:2011.13456, eq. 32 and 33.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    earliest: float = 1e-5

    def __post_init__(self) -> None:
        _check_range("beta", self.beta_min, self.beta_max)
        _check_earliest(self.earliest)

    ends_clean = True
    prior_std = 1.0

    def _log_alpha(self, times: Array) -> Array:
        slope = self.beta_max - self.beta_min
        return -0.25 * jnp.square(times) * slope - 0.5 * times * self.beta_min

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]."""
        log_alpha = self._log_alpha(times)
        return Scales(jnp.exp(log_alpha), jnp.sqrt(-jnp.expm1(2.0 * log_alpha)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubVariancePreserving(VariancePreserving):
    r"""The process whose variance stays below the variance-preserving one's.

    Its signal scale is that of :class:`VariancePreserving`, and :math:`\sigma = 1 - \alpha^2`.

    References:
        Song et al., arXiv:2011.13456, eq. 29 of appendix B.
    """

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]."""
        log_alpha = self._log_alpha(times)
        return Scales(jnp.exp(log_alpha), -jnp.expm1(2.0 * log_alpha))


@dataclasses.dataclass(frozen=True, kw_only=True)
class VarianceExploding(_Continuous):
    r"""Noise is added to data that keeps its scale: :math:`\alpha = 1`, :math:`\log \sigma` linear.

    It is the process of score matching with Langevin dynamics and, with other ends, that of EDM.

    Attributes:
        sigma_min: Noise at time 0.
        sigma_max: Noise at time 1: about the largest distance between examples for score matching,
            80 for EDM; at most :math:`e^{10}`, from where samplers begin at the latest.

    References:
        Song et al., arXiv:2011.13456, eq. 30 and 31; Karras et al., arXiv:2206.00364, table 1.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_range("sigma", self.sigma_min, self.sigma_max)
        if math.log(self.sigma_max) > -LEAST_LAM:
            raise ValueError(f"sigma_max must be at most e^10 = 22026, got {self.sigma_max}")

    earliest = 0.0
    ends_clean = True

    @property
    def prior_std(self) -> float:
        """The noise at time 1."""
        return self.sigma_max

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]; later and earlier ones have more and less noise."""
        log_ratio = math.log(self.sigma_max) - math.log(self.sigma_min)
        noise = jnp.exp(math.log(self.sigma_min) + log_ratio * times)
        return Scales(jnp.ones_like(noise), noise)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Straight(_Continuous):
    r"""Straight paths from data to noise: :math:`\alpha = 1 - t`, :math:`\sigma = t`.

    Attributes:
        sigma_min: Noise that is left at time 0, :math:`\sigma_0`: the noise scale is
            :math:`\sigma_0 + (1 - \sigma_0) t`.
        earliest: Least time at which the network is asked.

    References:
        Liu et al., Flow Straight and Fast, arXiv:2209.03003, eq. 1; Lipman et al.,
        arXiv:2210.02747, section 4, with time reversed.
    """

    sigma_min: float = 0.0
    earliest: float = 1e-3

    def __post_init__(self) -> None:
        _check_earliest(self.earliest)
        if not 0.0 <= self.sigma_min < 1.0:
            raise ValueError(f"sigma_min must be in [0, 1), got {self.sigma_min}")

    ends_clean = True
    prior_std = 1.0

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]."""
        if not self.sigma_min:
            return Scales(1.0 - times, times)
        return Scales(1.0 - times, self.sigma_min + (1.0 - self.sigma_min) * times)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(_Continuous):
    r"""Quarter of a circle: :math:`\alpha = \cos(\pi t/2)`, :math:`\sigma = \sin(\pi t/2)`.

    Attributes:
        shift: What is added to the log signal-to-noise ratio at all times: below 0 for images of
            more pixels, which are as recognisable at more noise.
        earliest: Least time at which the network is asked.

    References:
        Nichol and Dhariwal, arXiv:2102.09672, eq. 17 with s = 0; Hoogeboom et al., simple
        diffusion, arXiv:2301.11093, eq. 4 for the shift.
    """

    shift: float = 0.0
    earliest: float = 1e-3

    def __post_init__(self) -> None:
        _check_earliest(self.earliest)

    ends_clean = True
    prior_std = 1.0

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]."""
        # The cosine as a sine, which is 0 and not a little less at time 1.
        cosine, sine = (jnp.sin(0.5 * math.pi * share) for share in (1.0 - times, times))
        if not self.shift:
            return Scales(cosine, sine)
        # A shift of the log ratio is a factor of alpha^2 / sigma^2; then back onto the circle.
        cosine = cosine * math.exp(0.5 * self.shift)
        norm = jnp.sqrt(jnp.square(cosine) + jnp.square(sine))
        return Scales(cosine / norm, sine / norm)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    r"""The discrete chain of DDPM: :math:`q(z_i \mid z_{i-1})` adds noise of variance
    :math:`\beta_i`, for i = 1, ..., T, and ``t = i / T``.

    Between the steps the log signal scale is interpolated linearly. All sums are float64 on the
    host.

    Attributes:
        num_timesteps: Number of steps ``T``.
        betas: How the variances go from first to last: ``"linear"`` (DDPM), ``"scaled_linear"``
            (linear in their roots, as in latent diffusion), ``"cosine"`` (of the signal,
            variances at most 0.999), ``"sigmoid"`` (of the signal, from -3 to 3) or ``"constant"``
            (``beta_max`` throughout).
        beta_min: First variance, for 1,000 steps; it is scaled by ``1000 / T``. Not read by
            ``"cosine"`` and ``"sigmoid"``.
        beta_max: Last variance, for 1,000 steps, likewise.

    References:
        Ho et al., arXiv:2006.11239, section 4; Nichol and Dhariwal, arXiv:2102.09672, eq. 17;
        Jabri et al., arXiv:2212.11972, for the sigmoid.
    """  # noqa: D205

    num_timesteps: int = 1000
    betas: Betas = "linear"
    beta_min: float = 1e-4
    beta_max: float = 0.02

    def __post_init__(self) -> None:
        if self.num_timesteps < 1:
            raise ValueError(f"num_timesteps must be at least 1, got {self.num_timesteps}")
        _check_range("beta", self.beta_min, self.beta_max)
        if not (self.variances() < 1.0).all():
            raise ValueError(
                f"the variances of {self.num_timesteps} steps must be below 1, got up to "
                f"{self.variances().max():.3g}: take more steps or a smaller beta_max"
            )

    ends_clean = True
    prior_std = 1.0

    @property
    def earliest(self) -> float:
        """The time of the first step."""
        return 1.0 / self.num_timesteps

    @functools.cached_property
    def _log_signal(self) -> np.ndarray:
        """Logarithms of alpha at steps 0 to T, float64."""
        total = np.cumsum(np.log1p(-self.variances()))
        return np.concatenate([[0.0], 0.5 * total])

    def variances(self) -> np.ndarray:
        r""":math:`\beta_1, ..., \beta_T`, float64 ``[T]``."""
        count = self.num_timesteps
        first, last = (1000.0 / count * b for b in (self.beta_min, self.beta_max))
        times = np.arange(count + 1) / count
        if self.betas == "linear":
            return np.linspace(first, last, count)
        if self.betas == "scaled_linear":
            return np.linspace(math.sqrt(first), math.sqrt(last), count) ** 2
        if self.betas == "constant":
            return np.full(count, last)
        if self.betas == "cosine":
            signal = np.cos((times + 0.008) / 1.008 * math.pi / 2.0) ** 2
        elif self.betas == "sigmoid":
            signal = _sigmoid(3.0 - 6.0 * times) - _sigmoid(np.array([-3.0]))
        else:
            raise ValueError(
                "betas must be linear, scaled_linear, cosine, sigmoid or constant, got "
                f"{self.betas!r}"
            )
        return np.minimum(1.0 - signal[1:] / signal[:-1], 0.999)

    def times_of(self, shares: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The times of the steps, each as likely as the others."""
        count = self.num_timesteps
        # Rounding may bring a share to 1.
        return (jnp.minimum(jnp.floor(shares * count), count - 1) + 1.0) / count

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]."""
        log_alpha = jnp.asarray(self._log_signal, times.dtype)
        steps = jnp.arange(self.num_timesteps + 1, dtype=times.dtype)
        found = jnp.interp(times * self.num_timesteps, steps, log_alpha)
        return Scales(jnp.exp(found), jnp.sqrt(-jnp.expm1(2.0 * found)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _check_range(name: str, low: float, high: float) -> None:
    if not 0.0 < low <= high:
        raise ValueError(f"expected 0 < {name}_min <= {name}_max, got {low} and {high}")


def _check_earliest(earliest: float) -> None:
    if not 0.0 < earliest < 1.0:
        raise ValueError(f"earliest must be a time in (0, 1), got {earliest}")
