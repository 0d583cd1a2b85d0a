r"""Gaussian processes from data to noise: latents :math:`z_t = \alpha_t x + \sigma_t \epsilon`.

A process maps times in [0, 1], from data to noise, to the two scales; all else that a diffusion
model needs of it follows from these: the signal-to-noise ratio :math:`\alpha^2/\sigma^2`, the drift
and the diffusion of the stochastic differential equation with these marginals, the posteriors of
earlier latents. Processes are values; those of published models are in
:mod:`genjax.diffusion.processes`, and :class:`GammaProcess` is that of a (learned) schedule of
:math:`\gamma = -\log \mathrm{SNR}`.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.losses.arrays import check_same_shape, per_row

LEAST_SCALE = 1e-12
"""What stands for a scale that is 0, so that logarithms and their slopes are finite."""


class Scales(NamedTuple):
    r"""What a latent :math:`z = \alpha x + \sigma \epsilon` is made of.

    Attributes:
        alpha: Signal scale.
        sigma: Noise scale, of the same shape.
    """

    alpha: Float[Array, "*shape"]
    sigma: Float[Array, "*shape"]

    @property
    def gamma(self) -> Array:
        r"""Negative log signal-to-noise ratio :math:`2 \log(\sigma/\alpha)`, always finite."""
        sigma, alpha = (jnp.maximum(scale, LEAST_SCALE) for scale in (self.sigma, self.alpha))
        return 2.0 * (jnp.log(sigma) - jnp.log(alpha))

    @property
    def lam(self) -> Array:
        r"""Half the log signal-to-noise ratio, :math:`\lambda = \log(\alpha/\sigma)`."""
        return jnp.log(self.alpha) - jnp.log(self.sigma)


@runtime_checkable
class Process(Protocol):
    """A Gaussian process from data at time 0 to noise at time 1.

    Attributes:
        earliest: Least time at which a network is asked; the signal-to-noise ratio is finite there.
        ends_clean: Whether samples end in data itself, by a last step to noise 0. If not, they end
            at time 0, whose noise the decoder of the model takes off.
        prior_std: Standard deviation of the latents that sampling begins with.
    """

    @property
    def earliest(self) -> float:
        """See the class."""
        ...

    @property
    def ends_clean(self) -> bool:
        """See the class."""
        ...

    @property
    def prior_std(self) -> float:
        """See the class."""
        ...

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1], of any shape and in their precision."""
        ...

    def times_of(self, shares: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Times at which training asks the network, uniform where the shares are, of [0, 1)."""
        ...


def alpha(gamma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Signal scale :math:`\alpha = \sqrt{\mathrm{sigmoid}(-\gamma)}` that preserves variance.

    Args:
        gamma: Negative log signal-to-noise ratio, of any shape.

    Returns:
        The scale in (0, 1), of the same shape.

    Example:
        >>> alpha(jnp.array([-30.0, 30.0])).round(5)
        Array([1., 0.], dtype=float32)

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, eq. 4.
    """
    # Through log_sigmoid: its gradient stays finite where the sigmoid underflows.
    return jnp.exp(0.5 * jax.nn.log_sigmoid(-gamma))


def sigma(gamma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""Noise scale :math:`\sigma = \sqrt{\mathrm{sigmoid}(\gamma)}`, so that alpha² + sigma² = 1.

    Args:
        gamma: Negative log signal-to-noise ratio, of any shape.

    Returns:
        The scale in (0, 1), of the same shape.

    Example:
        >>> sigma(jnp.array([-30.0, 30.0])).round(5)
        Array([0., 1.], dtype=float32)

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, eq. 4.
    """
    # Through log_sigmoid for its gradient, as alpha.
    return jnp.exp(0.5 * jax.nn.log_sigmoid(gamma))


def of_gamma(gamma: Float[Array, "*shape"]) -> Scales:
    """The scales of a variance-preserving process at a negative log signal-to-noise ratio.

    Args:
        gamma: Negative log signal-to-noise ratio, of any shape.

    Returns:
        Both scales, of the same shape.

    Example:
        >>> round(float(of_gamma(jnp.array(0.0)).alpha), 4)
        0.7071
    """
    return Scales(alpha(gamma), sigma(gamma))


@dataclasses.dataclass(frozen=True)
class GammaProcess:
    r"""The variance-preserving process of a schedule of :math:`\gamma`, learned or not.

    Samples end at time 0, where the decoder of a variational diffusion model takes over.

    Attributes:
        schedule_fn: Increasing map from times in [0, 1] to gamma.

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, section 3.1.
    """

    schedule_fn: Callable[[Array], Array]
    earliest: float = 0.0
    ends_clean: bool = False
    prior_std: float = 1.0

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]."""
        return of_gamma(self.schedule_fn(times))

    def times_of(self, shares: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The shares themselves."""
        return shares


def diffuse(
    x: Float[Array, "B *event"],
    noise: Float[Array, "B *event"],
    alpha_t: Float[Array, "*batch"],
    sigma_t: Float[Array, "*batch"],
) -> Float[Array, "B *event"]:
    r"""Draws :math:`z_t = \alpha_t x + \sigma_t \epsilon` from given noise.

    Args:
        x: Data, ``[B, *event]``.
        noise: Standard normal draws, ``[B, *event]``.
        alpha_t: Signal scale; a scalar or one a row.
        sigma_t: Noise scale; a scalar or one a row.

    Returns:
        The latent ``z_t``, ``[B, *event]``.

    Raises:
        ValueError: If a scale is neither a scalar nor one value a row, or ``x`` and ``noise``
            differ in shape.

    Example:
        >>> diffuse(jnp.ones((1, 1)), jnp.ones((1, 1)), *of_gamma(jnp.array([0.0])))
        Array([[1.4142135]], dtype=float32)

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, eq. 1.
    """
    check_same_shape(x=x, noise=noise)
    return per_row(alpha_t, x) * x + per_row(sigma_t, x) * noise


def gamma_and_slope_of(
    process: Process, times: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    r"""Gamma of a process and its derivative :math:`d\gamma/dt` at each time.

    The diffusion of the process's stochastic differential equation is :math:`g^2 = \sigma^2
    d\gamma/dt`.

    Args:
        process: The process.
        times: Times in (0, 1), of any shape.

    Returns:
        ``gamma_t`` and its slope, of the shape of ``times``.

    References:
        Kingma et al., arXiv:2107.00630, appendix F, eq. 84 for the diffusion.
    """
    return jax.jvp(lambda t: process.scales(t).gamma, (times,), (jnp.ones_like(times),))


def time_of(
    process: Process, lam: Float[Array, "*shape"], *, num_halvings: int = 60
) -> Float[Array, "*shape"]:
    r"""The times at which a process has some half log signal-to-noise ratios.

    Args:
        process: The process.
        lam: :math:`\lambda = \log(\alpha/\sigma)`, of any shape.
        num_halvings: Halvings of [0, 1]; what is left is below the rounding of float64.

    Returns:
        Times in [0, 1], of the same shape; 0 or 1 for what lies outside of the process.
    """
    low = jnp.zeros_like(lam)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        # Lambda falls with time.
        late = process.scales(middle).lam < lam
        return jnp.where(late, low, middle), jnp.where(late, middle, high)

    low, high = jax.lax.fori_loop(0, num_halvings, halve, (low, low + 1.0))
    return 0.5 * (low + high)


LEAST_LAM = -10.0
"""The least log ratio of signal to noise that models are asked at: below it there is no signal."""


def latest(process: Process) -> Float[Array, ""]:
    """The time of the most noise that a model is asked at.

    Args:
        process: The process.

    Returns:
        Time 1, or, where there is no signal at all then, the time at which the signal's scale is
        :math:`e^{-10}` of the noise's.

    Example:
        >>> float(latest(GammaProcess(lambda t: 18.0 * t - 13.0)))
        1.0
    """
    return time_of(process, jnp.asarray(LEAST_LAM))
