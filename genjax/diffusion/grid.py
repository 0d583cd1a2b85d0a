"""The times at which sampling asks the network, from noise to data."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.diffusion.process import LEAST_LAM, Process, Scales, latest, time_of

Spacing = Literal["uniform", "quadratic", "log_snr", "karras"]
SPACINGS: tuple[Spacing, ...] = ("uniform", "quadratic", "log_snr", "karras")


class Grid(NamedTuple):
    """Points of the way from noise to data.

    Attributes:
        times: Times at which the network is asked, falling, ``[N]``.
        alpha: Signal scales there and at the end, ``[M]``, one more.
        sigma: Noise scales there and at the end, ``[M]``, one more.
        clean: Whether the last noise scale is 0: samples end in data itself.
    """

    times: Float[Array, " N"]
    alpha: Float[Array, " M"]
    sigma: Float[Array, " M"]
    clean: bool = True

    @property
    def lam(self) -> Float[Array, " M"]:
        r"""Half the log signal-to-noise ratio :math:`\lambda = \log(\alpha/\sigma)`."""
        return Scales(self.alpha, self.sigma).lam


def time_grid(
    process: Process, num_steps: int, spacing: Spacing = "uniform", *, rho: float = 7.0
) -> Grid:
    r"""Spreads steps over the times of a process.

    ``"uniform"`` are the times :math:`1 - i/N`, ``"quadratic"`` their squares, which are closer to
    each other near data; ``"log_snr"`` has equal steps of :math:`\log(\alpha/\sigma)` and
    ``"karras"`` of :math:`(\sigma/\alpha)^{1/\rho}`. The first is time 1, or, where there is no
    signal at all then, the time at which there is :math:`e^{-10}` of it. Where samples end
    in data the last step goes to noise 0 from a time above 0: of uniform times from ``1 / N`` (from
    time 0 where there is noise at time 0 still), of the last two spacings from the process's
    ``earliest``. Otherwise all end at time 0.

    Args:
        process: The process.
        num_steps: Number of steps ``N``, each with its time.
        spacing: How they are spread.
        rho: Exponent of ``"karras"``; 7 in the paper.

    Returns:
        The grid.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from genjax.diffusion import Straight
        >>> [round(float(scale), 3) for scale in time_grid(Straight(), 4).sigma]
        [1.0, 0.75, 0.5, 0.25, 0.0]

    References:
        Karras et al., arXiv:2206.00364, eq. 5; Lu et al., arXiv:2211.01095, section 4, for equal
        steps of the log ratio; Song et al., arXiv:2010.02502, appendix D.2, for squares.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if spacing not in SPACINGS:
        raise ValueError(f"times must be one of {', '.join(SPACINGS)}, got {spacing!r}")
    if not rho > 0:
        raise ValueError(f"rho must be positive, got {rho}")
    clean_at_0 = process.ends_clean and process.earliest > 0
    if spacing in ("uniform", "quadratic"):
        # To time 0 in N steps, or at time 0 already with the last of them.
        points = num_steps + 1 if clean_at_0 or not process.ends_clean else num_steps
        times = jnp.linspace(1.0, 0.0, max(points, 2))[:points]
        if spacing == "quadratic":
            times = jnp.square(times)
        if clean_at_0:
            times = jnp.maximum(times, process.earliest)
    else:
        # The last time asked at is the earliest, or, where samples end there, the end itself.
        points = num_steps if process.ends_clean else num_steps + 1
        share = jnp.linspace(0.0, 1.0, max(points, 2))[:points]
        ends = process.scales(jnp.array([1.0, process.earliest]))
        first, last = jnp.maximum(ends.lam, LEAST_LAM)
        if spacing == "log_snr":
            lam = first + share * (last - first)
        else:
            low, high = (jnp.exp(-lam / rho) for lam in (last, first))
            lam = -rho * jnp.log(high + share * (low - high))
        times = time_of(process, lam)
        times = times.at[0].set(1.0)
        if points > 1:
            times = times.at[-1].set(process.earliest)
    if process.ends_clean:
        # Solvers divide by the signal's scale.
        times = jnp.minimum(times, latest(process).astype(times.dtype))
    alpha, sigma = process.scales(times)
    if process.ends_clean:
        times = times[:num_steps]
        alpha = jnp.append(alpha[:num_steps], jnp.ones((), alpha.dtype))
        sigma = jnp.append(sigma[:num_steps], jnp.zeros((), sigma.dtype))
    return Grid(times[:num_steps], alpha, sigma, process.ends_clean)
