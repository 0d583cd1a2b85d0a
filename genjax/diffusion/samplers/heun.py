"""Euler's and Heun's methods for the probability flow, with or without churn."""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array

from genjax.diffusion.grid import Grid, Spacing
from genjax.diffusion.process import Process, time_of
from genjax.diffusion.samplers.linear import LinearSampler, Table, rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Euler(LinearSampler):
    r"""Euler's method in :math:`z/\alpha`, whose slope in :math:`\sigma/\alpha` is the noise.

    Without churn it takes the steps of DDIM. Churn raises the noise of a latent before each step,
    as if it came from further back: never above that of time 1.

    Attributes:
        churn: EDM's :math:`S_{churn}`: the noise of a step is raised by the factor
            :math:`1 + \min(S_{churn}/N, \sqrt 2 - 1)`.
        churn_min: Least :math:`\sigma/\alpha` at which it is.
        churn_max: Largest at which it is; None for any.
        churn_noise: Standard deviation of that noise; a little above 1 makes up for what networks
            take off too much.

    References:
        Karras et al., arXiv:2206.00364, algorithm 2 without its second order step.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float | None = None
    churn_noise: float = 1.0
    times: Spacing = "karras"

    def __post_init__(self) -> None:
        super().__post_init__()
        most = math.inf if self.churn_max is None else self.churn_max
        if self.churn < 0 or self.churn_noise < 0 or not 0 <= self.churn_min <= most:
            raise ValueError(
                "churn and churn_noise must not be negative, and churn_min not above churn_max, "
                f"got {self.churn}, {self.churn_noise}, {self.churn_min} and {self.churn_max}"
            )

    def _raised(self, process: Process, grid: Grid) -> tuple[Array, Array, Array, Array]:
        """Times, signal scales and noise ratios after churn, and the noise that it adds."""
        alpha, ratio = grid.alpha[:-1], grid.sigma[:-1] / grid.alpha[:-1]
        if not self.churn:
            return grid.times, alpha, ratio, jnp.zeros_like(ratio)
        share = min(self.churn / len(grid.times), math.sqrt(2.0) - 1.0)
        churned = ratio >= self.churn_min
        if self.churn_max is not None:
            churned &= ratio <= self.churn_max
        raised = jnp.minimum(jnp.where(churned, ratio * (1.0 + share), ratio), ratio[0])
        times = jnp.where(churned, time_of(process, -jnp.log(raised)), grid.times)
        scales = process.scales(times)
        alpha = jnp.where(churned, scales.alpha, alpha)
        added = jnp.sqrt(jnp.maximum(jnp.square(raised) - jnp.square(ratio), 0.0))
        return times, alpha, raised, self.churn_noise * added

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        times, alpha, ratio, added = self._raised(process, grid)
        ratio_s = grid.sigma[1:] / grid.alpha[1:]
        # After a step the next one's churn: its noise, and the scale of the later time.
        alpha_s = jnp.append(alpha[1:], grid.alpha[-1])
        noise = alpha_s * jnp.append(added[1:], 0.0)
        left = ratio_s / ratio
        steps = rows(
            times, latent=alpha_s / alpha * left, estimates=(alpha_s * (1.0 - left),), noise=noise
        )
        return Table(times, steps, stochastic=self.churn > 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heun(Euler):
    r"""Heun's method of second order: the slope is the mean of those at both ends of a step.

    Each step takes two network calls, the last one, if it ends in data itself, one.

    References:
        Karras et al., arXiv:2206.00364, algorithms 1 and 2.
    """

    def num_calls(self, num_steps: int, *, ends_clean: bool = True) -> int:
        """Network calls of so many steps, without those of guidance."""
        return 2 * num_steps - 1 if ends_clean else 2 * num_steps

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        times, alpha, ratio, added = self._raised(process, grid)
        alpha_end, ratio_end = grid.alpha[1:], grid.sigma[1:] / grid.alpha[1:]
        change = ratio_end - ratio
        # To the end of the step by the slope at its beginning, which stays the base.
        first = rows(
            times,
            latent=alpha_end / alpha * ratio_end / ratio,
            estimates=(-alpha_end * change / ratio,),
        )
        stay = rows(times, base=1.0)
        # Then from the base by the mean slope; after it the next step's churn, as in Euler's.
        alpha_s = jnp.append(alpha[1:], grid.alpha[-1])
        safe = jnp.where(ratio_end > 0, ratio_end, 1.0)
        second = rows(
            times,
            latent=alpha_s / alpha_end * 0.5 * change / safe,
            base=alpha_s / alpha * (1.0 + 0.5 * change / ratio),
            estimates=(-alpha_s * 0.5 * change / safe, -alpha_s * 0.5 * change / ratio),
            noise=alpha_s * jnp.append(added[1:], 0.0),
        )

        def in_turn(a: Array, b: Array) -> Array:
            both = jnp.stack([a, b], axis=1).reshape(2 * a.shape[0], *a.shape[1:])
            # Data has no slope: the last step is the first half alone.
            return both[:-1] if grid.clean else both

        at_ends = jnp.append(grid.times[1:], jnp.zeros_like(times[:1]))
        return Table(
            in_turn(times, at_ends),
            in_turn(first, second),
            in_turn(stay, second),
            stochastic=self.churn > 0,
        )
