"""Predictor-corrector sampling of score-based models."""

import dataclasses

import jax.numpy as jnp

from genjax.diffusion.grid import Grid
from genjax.diffusion.process import Process
from genjax.diffusion.samplers.first_order import Ancestral
from genjax.diffusion.samplers.linear import COLUMNS, LinearSampler, Table, rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictorCorrector(LinearSampler):
    r"""Langevin steps at each time, then an ancestral step to the next.

    A Langevin step is :math:`z + \delta s + \sqrt{2\delta}\,\epsilon` with the score ``s`` and
    :math:`\delta = 2 a (r \lVert\epsilon\rVert / \lVert s\rVert)^2`, where ``a`` is the share of
    the variance that the process keeps in a step. The norms are those of unit noise and of its
    score, :math:`\sqrt D` and :math:`\sqrt D/\sigma`, so that :math:`\delta = 2 a r^2\sigma^2`.
    Published code measures both and takes their means over the batch, so that a sample depends on
    what it is drawn with; with each example's own the steps would be largest where the score is
    small, and D numbers would come out with a variance too large by a share of about 4 / D.

    Attributes:
        snr: The ratio ``r`` of a Langevin step's signal to its noise.
        num_corrections: Langevin steps at each time.

    References:
        Song et al., arXiv:2011.13456, algorithms 2 to 5 of appendix G.
    """

    snr: float = 0.16
    num_corrections: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.snr > 0 or self.num_corrections < 1:
            raise ValueError(
                "snr must be positive and num_corrections at least 1, got "
                f"{self.snr} and {self.num_corrections}"
            )

    def num_calls(self, num_steps: int, *, ends_clean: bool = True) -> int:
        """Network calls of so many steps."""
        return num_steps * (1 + self.num_corrections)

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        alpha, sigma = grid.alpha[:-1], grid.sigma[:-1]
        # The size of a Langevin step over sigma^2; its score is (alpha x - z) / sigma^2.
        size = 2.0 * self.snr**2 * jnp.square(alpha / grid.alpha[1:])
        corrected = rows(
            grid.times,
            latent=1.0 - size,
            estimates=(size * alpha,),
            noise=sigma * jnp.sqrt(2.0 * size),
        )
        # Noise of the variance of the forward step, none in the step to data.
        predicted = Ancestral(variance="large").table(process, grid).steps
        steps = jnp.stack([corrected] * self.num_corrections + [predicted], axis=1)
        times = jnp.repeat(grid.times, 1 + self.num_corrections)
        return Table(times, steps.reshape(-1, COLUMNS), stochastic=True)
