"""Ancestral sampling and DDIM: one estimate, one step."""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from genjax.diffusion.grid import Grid
from genjax.diffusion.process import Process
from genjax.diffusion.samplers.linear import LinearSampler, Table, rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ancestral(LinearSampler):
    r"""Draws each latent from the posterior of the process, given the one before and the data.

    For s < t, with :math:`c = 1 - (\alpha_t\sigma_s)^2/(\alpha_s\sigma_t)^2`,

    .. math:: z_s = \frac{\alpha_t\sigma_s^2}{\alpha_s\sigma_t^2} z_t + \alpha_s c\,\hat x
        + \mathrm{std}\cdot\epsilon.

    Attributes:
        variance: ``"small"``: :math:`\sigma_s^2 c`, the posterior's own; ``"large"``: that of the
            forward step, :math:`\sigma_t^2 c`.

    References:
        Ho et al., arXiv:2006.11239, eq. 7 and section 3.2; Kingma et al., arXiv:2107.00630,
        appendix A.4.
    """

    variance: Literal["small", "large"] = "small"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in ("small", "large"):
            raise ValueError(f"variance must be small or large, got {self.variance!r}")

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        del process
        alpha_t, sigma_t = grid.alpha[:-1], grid.sigma[:-1]
        alpha_s, sigma_s = grid.alpha[1:], grid.sigma[1:]
        ratio = jnp.square(alpha_t * sigma_s / (alpha_s * sigma_t))
        # The share of the noise in z_t, by its variance, that came after time s; steps are small,
        # so the difference from 1 is taken at once.
        c = -jnp.expm1(2.0 * (jnp.log(alpha_t / alpha_s) + jnp.log(sigma_s) - jnp.log(sigma_t)))
        std = jnp.sqrt(c) * (sigma_s if self.variance == "small" else sigma_t)
        # No noise in the step to data.
        std = jnp.where(sigma_s > 0, std, 0.0)
        of_latent = ratio * alpha_s / jnp.where(alpha_t > 0, alpha_t, 1.0)
        of_latent = jnp.where(alpha_t > 0, of_latent, 0.0)
        steps = rows(grid.times, latent=of_latent, estimates=(alpha_s * c,), noise=std)
        return Table(grid.times, steps, stochastic=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDIM(LinearSampler):
    r"""Denoising diffusion implicit models.

    .. math:: z_s = \alpha_s\hat x + \sqrt{\sigma_s^2 - \eta^2\tilde\sigma^2}\,\hat\epsilon
        + \eta\tilde\sigma\,\epsilon,

    where :math:`\tilde\sigma^2` is the variance of the process's posterior.

    Attributes:
        eta: 0 for a deterministic sampler, which solves the probability flow to first order; 1 for
            the ancestral one.

    References:
        Song et al., Denoising Diffusion Implicit Models, arXiv:2010.02502, eq. 12 and 16.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must be in [0, 1], got {self.eta}")

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        del process
        alpha_t, sigma_t = grid.alpha[:-1], grid.sigma[:-1]
        alpha_s, sigma_s = grid.alpha[1:], grid.sigma[1:]
        c = -jnp.expm1(2.0 * (jnp.log(alpha_t / alpha_s) + jnp.log(sigma_s) - jnp.log(sigma_t)))
        variance = self.eta**2 * jnp.square(sigma_s) * c
        along = jnp.sqrt(jnp.maximum(jnp.square(sigma_s) - variance, 0.0)) / sigma_t
        # The noise's estimate is what is left of z_t less the data's.
        noise = jnp.sqrt(variance)
        of_data = alpha_s - along * alpha_t
        steps = rows(grid.times, latent=along, estimates=(of_data,), noise=noise)
        return Table(grid.times, steps, stochastic=self.eta > 0)
