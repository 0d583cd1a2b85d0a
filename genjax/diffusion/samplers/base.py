"""What samplers ask, and what all of them share."""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.diffusion.predictions import Estimate
from genjax.diffusion.process import LEAST_SCALE, Process
from genjax.losses.arrays import per_row


@dataclasses.dataclass(frozen=True)
class Bottleneck:
    """The activation in the middle of a network, the h-space: what it is, and what changes it.

    Attributes:
        shape: Shape of one example's activation.
        watched: ``(z [B, *event], t []) -> (Estimate, h [B, *shape])``: the denoiser's estimate,
            and the activation on the way to it, float32.
        estimate: ``(z [B, *event], t [], delta_h [B, *shape]) -> Estimate``, with something added
            to the activation.
    """

    shape: tuple[int, ...]
    watched: Callable[[Array, Array], tuple[Estimate, Array]]
    estimate: Callable[[Array, Array, Array], Estimate]


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A model that estimates the data and the noise in latents of a process.

    Attributes:
        process: The process.
        estimate: ``(z [B, *event], t []) -> Estimate``, at one time for all rows. Guidance and
            labels are part of it.
        spread: What is done to rows drawn inside a step: as ``genjax.devices.spread_rows``.
        bottleneck: The middle of the network; None for networks that have none.
    """

    process: Process
    estimate: Callable[[Array, Array], Estimate]
    spread: Callable[[Array], Array] = lambda rows: rows
    bottleneck: Bottleneck | None = None

    def velocity(self, z: Float[Array, "B *event"], t: Array) -> Float[Array, "B *event"]:
        r"""Velocity of the probability flow, :math:`\alpha'(t)\hat x + \sigma'(t)\hat\epsilon`.

        Args:
            z: Latents.
            t: One time for all of them.

        Returns:
            :math:`dz/dt`, ``[B, *event]``.

        References:
            Song et al., arXiv:2011.13456, eq. 13, with the drift and the diffusion of the process.
        """
        one = jnp.ones_like(t)
        _, slope = jax.jvp(self.process.scales, (t,), (one,))
        data, noise = self.estimate(z, t)
        return slope.alpha * data + slope.sigma * noise


@runtime_checkable
class Sampler(Protocol):
    """A way from noise to data."""

    def sample(
        self,
        denoiser: Denoiser,
        key: PRNGKeyArray,
        z: Float[Array, "B *event"],
        *,
        num_steps: int,
        num_frames: int = 1,
    ) -> tuple[Float[Array, "B *event"], Float[Array, "F B *event"]]:
        """Samples in the units of the data, and latents on the way, the last of them the last."""
        ...

    def num_calls(self, num_steps: int, *, ends_clean: bool = True) -> int | None:
        """Network calls of so many steps; None where they depend on the rows.

        Args:
            num_steps: Number of steps.
            ends_clean: What the process says of its end.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
    r"""What keeps estimates of data in its interval [-1, 1].

    ``"static"`` clips to it. ``"dynamic"`` clips each example to :math:`[-s, s]` and divides by
    ``s``, where ``s`` is the quantile of its absolute values, at least 1. Neither is for data
    without an interval, such as latents.

    Attributes:
        threshold: ``"none"``, ``"static"`` or ``"dynamic"``.
        quantile: The share of an example's entries that ``s`` is not below.

    References:
        Saharia et al., Imagen, arXiv:2205.11487, section 2.3.
    """

    threshold: Literal["none", "static", "dynamic"] = "none"
    quantile: float = 0.995

    def __post_init__(self) -> None:
        if self.threshold not in ("none", "static", "dynamic"):
            raise ValueError(f"threshold must be none, static or dynamic, got {self.threshold!r}")
        if not 0.0 < self.quantile <= 1.0:
            raise ValueError(f"quantile must be in (0, 1], got {self.quantile}")

    def data(self, x: Float[Array, "B *event"]) -> Float[Array, "B *event"]:
        """The estimate of the data, kept in its interval."""
        if self.threshold == "none":
            return x
        if self.threshold == "static":
            return jnp.clip(x, -1.0, 1.0)
        sizes = jnp.abs(x).reshape(x.shape[0], -1)
        reach = per_row(jnp.maximum(jnp.quantile(sizes, self.quantile, axis=1), 1.0), x)
        return jnp.clip(x, -reach, reach) / reach

    def of(self, denoiser: Denoiser) -> Denoiser:
        """A denoiser whose estimates are kept in the interval, those of noise accordingly."""
        if self.threshold == "none":
            return denoiser

        def estimate(z: Array, t: Array) -> Estimate:
            alpha, sigma = denoiser.process.scales(t)
            data = self.data(denoiser.estimate(z, t).data)
            return Estimate(data, (z - alpha * data) / jnp.maximum(sigma, LEAST_SCALE))

        return dataclasses.replace(denoiser, estimate=estimate)


def prior_latents(
    process: Process, key: PRNGKeyArray, shape: tuple[int, ...]
) -> tuple[PRNGKeyArray, Float[Array, "B *event"]]:
    """The latents that samplers begin with.

    Args:
        process: The process.
        key: Key of all draws.
        shape: Shape of the samples, ``[B, *event]``.

    Returns:
        The key of the noise of the steps, and the latents at time 1.
    """
    # One key for the latents at time 1, one for the noise of the steps.
    key, key_prior = jax.random.split(key)
    prior = jax.random.normal(key_prior, shape)
    return key, prior if process.prior_std == 1.0 else process.prior_std * prior


def check_steps(num_steps: int, num_frames: int) -> None:
    """Refuses numbers of steps and frames that cannot be.

    Args:
        num_steps: Number of steps.
        num_frames: Number of latents on the way that are kept.

    Raises:
        ValueError: If ``num_steps`` is not positive, or ``num_frames`` not between 1 and it.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 1 <= num_frames <= num_steps:
        raise ValueError(f"num_frames must be between 1 and {num_steps} steps, got {num_frames}")
