"""The probability flow solved with steps of its own choice."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.diffusion.process import latest
from genjax.diffusion.samplers.base import Denoiser, Threshold
from genjax.ode import Solver, integrate


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveODE(Threshold):
    r"""Solves the probability flow to a tolerance, with steps common to all rows of a batch.

    Time runs from 1, or the latest that there is signal at, to the earliest that the network is
    asked at. Where samples end in data, one
    more estimate there takes the rest of the noise off.

    Attributes:
        threshold: What keeps estimates of data in [-1, 1].
        quantile: Quantile of the dynamic threshold.
        method: Adaptive method: ``"dopri5"`` or ``"tsit5"``.
        tolerance: Relative and absolute tolerance.
        max_steps: Steps after which it gives up; samples are NaN then.

    References:
        Song et al., arXiv:2011.13456, section 4.3 and appendix D.4.
    """

    method: Literal["dopri5", "tsit5"] = "dopri5"
    tolerance: float = 1e-5
    max_steps: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.solver.adaptive:
            raise ValueError(f"method must be dopri5 or tsit5, got {self.method!r}")

    @property
    def solver(self) -> Solver:
        """How the equation is solved."""
        return Solver(
            method=self.method, rtol=self.tolerance, atol=self.tolerance, max_steps=self.max_steps
        )

    def num_calls(self, num_steps: int, *, ends_clean: bool = True) -> None:
        """None: they depend on the rows."""
        return None

    def sample(
        self,
        denoiser: Denoiser,
        key: PRNGKeyArray,
        z: Float[Array, "B *event"],
        *,
        num_steps: int,
        num_frames: int = 1,
    ) -> tuple[Float[Array, "B *event"], Float[Array, "F B *event"]]:
        """Goes from noise to data: see :meth:`LinearSampler.sample`; ``num_steps`` is not read."""
        del key, num_steps
        denoiser = self.of(denoiser)
        process = denoiser.process

        def field(z: Array, t: Array) -> Array:
            return denoiser.velocity(denoiser.spread(z), t)

        # Where there is no signal at all, an estimate of noise says nothing of data.
        first = latest(process) if process.ends_clean else 1.0
        shares = [i / num_frames for i in range(num_frames + 1)]
        times = [first + (process.earliest - first) * share for share in shares]
        frames = []
        for start, stop in zip(times[:-1], times[1:], strict=True):
            z = integrate(field, z, (start, stop), self.solver)
            frames.append(z)
        last = jnp.asarray(process.earliest, z.dtype)
        if process.ends_clean:
            x = denoiser.estimate(z, last).data
        else:
            x = z / process.scales(last).alpha
        return x, jnp.stack(frames)
