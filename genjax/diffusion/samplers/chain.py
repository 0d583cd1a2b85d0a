"""The way back through the steps of a chain, with the variances that its model has."""

import dataclasses
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.diffusion.chain_steps import chain_steps
from genjax.diffusion.predictions import Estimate
from genjax.diffusion.processes import Chain
from genjax.diffusion.samplers.base import Denoiser, check_steps
from genjax.losses import interpolated_log_variance

VarianceKind = Literal["fixed_small", "fixed_large", "learned"]
WithShare: TypeAlias = Callable[[Array, Array], tuple[Estimate, Array]]
"""``(z [B, *event], t []) -> (Estimate, v [B, *event])``; v says where the variance is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainSampler:
    r"""Ancestral sampling of DDPM: a Gaussian step with the model's own mean and variance each.

    With fewer steps than the chain has, it is that of the chain that these are, for which the
    variances between steps are computed anew and what a network has learned of them is used as it
    is. No noise is added in the step to data.

    Attributes:
        chain: The chain.
        variance: ``"fixed_small"``: :math:`\tilde\beta` of the posterior; ``"fixed_large"``:
            :math:`\beta` of the forward step; ``"learned"``: between the two, as ``learned`` says.
        clip_data: Whether estimates of data are clipped to [-1, 1] before they enter the mean.
        learned: The model with its learned variance.
        guided: Whether the denoiser is a guided one, whose estimates are not those of ``learned``:
            the variance, which is the model's own, then takes a network call of its own.

    References:
        Ho et al., arXiv:2006.11239, algorithm 2; Nichol and Dhariwal, arXiv:2102.09672, section 4.
    """

    chain: Chain
    variance: VarianceKind = "fixed_large"
    clip_data: bool = False
    learned: WithShare | None = None
    guided: bool = False

    def __post_init__(self) -> None:
        if self.variance not in ("fixed_small", "fixed_large", "learned"):
            raise ValueError(
                f"variance must be fixed_small, fixed_large or learned, got {self.variance!r}"
            )
        if (self.variance == "learned") != (self.learned is not None):
            raise ValueError(
                "a learned variance takes a model of it, and no other one does: give both "
                "variance='learned' and learned, or neither"
            )

    def num_calls(self, num_steps: int, *, ends_clean: bool = True) -> int:
        """Network calls of so many steps, without those of guidance."""
        return 2 * num_steps if self.guided and self.learned is not None else num_steps

    def _asked(self, denoiser: Denoiser, z: Array, t: Array) -> tuple[Array, Array | None]:
        """The estimate of the data, and where the variance is if that is learned."""
        if self.learned is None:
            return denoiser.estimate(z, t).data, None
        estimate, share = self.learned(z, t)
        return (denoiser.estimate(z, t) if self.guided else estimate).data, share

    def sample(
        self,
        denoiser: Denoiser,
        key: PRNGKeyArray,
        z: Float[Array, "B *event"],
        *,
        num_steps: int,
        num_frames: int = 1,
    ) -> tuple[Float[Array, "B *event"], Float[Array, "F B *event"]]:
        """Goes from noise to data: see :meth:`LinearSampler.sample`.

        Raises:
            ValueError: If there are more steps than those of the chain, none, or more frames.
        """
        check_steps(num_steps, num_frames)
        steps = chain_steps(self.chain, num_steps)

        def body(call: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            z, frames = carry
            # From the last step of the chain, the noisiest, down to the step to data.
            index = num_steps - 1 - call
            step = steps.at(index)
            data, share = self._asked(denoiser, denoiser.spread(z), step.times.astype(z.dtype))
            if self.clip_data:
                data = jnp.clip(data, -1.0, 1.0)
            small, large = step.log_small.astype(z.dtype), step.log_large.astype(z.dtype)
            log_variance = small if self.variance == "fixed_small" else large
            if share is not None:
                log_variance = interpolated_log_variance(share, small, large)
            std = jnp.where(index > 0, jnp.exp(0.5 * log_variance), 0.0)
            # The noise of call i comes from the key and i: calls need no carry of keys.
            noise = jax.random.normal(jax.random.fold_in(key, call), z.shape, z.dtype)
            z = step.of_latent.astype(z.dtype) * z + step.of_data.astype(z.dtype) * data
            z = z + std * noise
            # Each frame is overwritten until its stretch of calls ends.
            frame = call * num_frames // num_steps
            return z, jax.lax.dynamic_update_index_in_dim(frames, z, frame, 0)

        frames = jnp.zeros((num_frames, *z.shape), z.dtype)
        return jax.lax.fori_loop(0, num_steps, body, (z, frames))
