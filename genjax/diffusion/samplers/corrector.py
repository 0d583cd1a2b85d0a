"""Predictor-corrector sampling of score-based models."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.diffusion.grid import SPACINGS, Spacing, time_grid
from genjax.diffusion.samplers.base import Denoiser, Threshold, check_steps
from genjax.diffusion.samplers.first_order import Ancestral
from genjax.losses.arrays import per_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictorCorrector(Threshold):
    r"""Langevin steps at each time, then an ancestral step to the next.

    A Langevin step is :math:`z + \delta s + \sqrt{2\delta}\,\epsilon` with the score ``s`` and
    :math:`\delta = 2 a (r \lVert\epsilon\rVert / \lVert s\rVert)^2`, where ``a`` is the share of
    the variance that the process keeps in a step. The norms are each example's own: published code
    takes their means over the batch, so that a sample depends on what it is drawn with.

    Attributes:
        threshold: What keeps estimates of data in [-1, 1].
        quantile: Quantile of the dynamic threshold.
        times: How steps are spread over time.
        rho: Exponent of ``times="karras"``.
        snr: The ratio ``r`` of a Langevin step's signal to its noise.
        num_corrections: Langevin steps at each time.

    References:
        Song et al., arXiv:2011.13456, algorithms 2 to 5 of appendix G.
    """

    times: Spacing = "uniform"
    rho: float = 7.0
    snr: float = 0.16
    num_corrections: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times not in SPACINGS:
            raise ValueError(f"times must be one of {', '.join(SPACINGS)}, got {self.times!r}")
        if not self.snr > 0 or self.num_corrections < 1:
            raise ValueError(
                "snr must be positive and num_corrections at least 1, got "
                f"{self.snr} and {self.num_corrections}"
            )

    def num_calls(self, num_steps: int) -> int:
        """Network calls of so many steps."""
        return num_steps * (1 + self.num_corrections)

    def langevin(
        self,
        z: Float[Array, "B *event"],
        score: Float[Array, "B *event"],
        noise: Float[Array, "B *event"],
        kept: Float[Array, ""],
    ) -> Float[Array, "B *event"]:
        """One step of Langevin dynamics, whose size follows from its own noise and score.

        Args:
            z: Latents.
            score: Slope of their log-density.
            noise: Standard normal draws.
            kept: The share ``a`` of the variance that the process keeps in a step.

        Returns:
            Latents of the same density, up to the step's size.
        """
        ratio = self.snr * _norm(noise) / jnp.maximum(_norm(score), 1e-12)
        size = per_row(2.0 * kept * jnp.square(ratio), z)
        return z + size * score + jnp.sqrt(2.0 * size) * noise

    def sample(
        self,
        denoiser: Denoiser,
        key: PRNGKeyArray,
        z: Float[Array, "B *event"],
        *,
        num_steps: int,
        num_frames: int = 1,
    ) -> tuple[Float[Array, "B *event"], Float[Array, "F B *event"]]:
        """Goes from noise to data: see :meth:`LinearSampler.sample`."""
        check_steps(num_steps, num_frames)
        denoiser = self.of(denoiser)
        grid = time_grid(denoiser.process, num_steps, self.times, rho=self.rho)
        # Noise of the variance of the forward step, none in the step to data.
        table = Ancestral(variance="large").table(denoiser.process, grid)
        steps = table.steps.astype(z.dtype)
        kept = jnp.square(grid.alpha[:-1] / grid.alpha[1:]).astype(z.dtype)
        noise_scale = grid.sigma.astype(z.dtype)

        def corrected(step: Array, z: Array, number: Array) -> Array:
            noise = jax.random.normal(jax.random.fold_in(key, number), z.shape, z.dtype)
            estimate = denoiser.estimate(denoiser.spread(z), grid.times[step])
            return self.langevin(z, -estimate.noise / noise_scale[step], noise, kept[step])

        def body(step: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            z, frames = carry
            first = step * (1 + self.num_corrections)
            for i in range(self.num_corrections):
                z = corrected(step, z, first + i)
            number = first + self.num_corrections
            noise = jax.random.normal(jax.random.fold_in(key, number), z.shape, z.dtype)
            data = denoiser.estimate(denoiser.spread(z), grid.times[step]).data
            z = steps[step, 0] * z + steps[step, 2] * data + steps[step, -1] * noise
            frame = step * num_frames // num_steps
            return z, jax.lax.dynamic_update_index_in_dim(frames, z, frame, 0)

        frames = jnp.zeros((num_frames, *z.shape), z.dtype)
        z, frames = jax.lax.fori_loop(0, num_steps, body, (z, frames))
        return z / grid.alpha[-1].astype(z.dtype), frames


def _norm(x: Array) -> Array:
    """Norm of each row, ``[B]``."""
    return jnp.sqrt(jnp.sum(jnp.square(x.reshape(x.shape[0], -1)), axis=1))
