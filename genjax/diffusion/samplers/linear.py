"""Samplers whose steps are sums of latents and estimates with known coefficients.

Every solver of the diffusion equations but the adaptive ones takes, at each step, a linear
combination of latents, of the last estimates of the data and of fresh noise, whose coefficients
depend on the grid alone. A sampler here computes the table of them; one compiled loop does the
rest.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.diffusion.grid import SPACINGS, Grid, Spacing, time_grid
from genjax.diffusion.process import Process
from genjax.diffusion.samplers.base import Denoiser, Threshold, check_steps

COLUMNS = 7
"""Of a row: the latent asked about, the base, the newest estimate, the three before it, noise."""
_PAST = 3


class Table(NamedTuple):
    """Coefficients of every network call of a sampler.

    A call ``i`` estimates the data in the latent ``z`` at ``times[i]``. Then ``z`` becomes
    ``steps[i]`` times ``(z, base, newest estimate, the three before it, noise)``, and the base,
    which is a latent kept from before, ``bases[i]`` times the same. Both are the starting noise at
    first.

    Attributes:
        times: Times at which the network is asked, ``[M]``.
        steps: Coefficients of the next latent, ``[M, 7]``.
        bases: Coefficients of the next base, ``[M, 7]``; None where the base is the latent itself.
        stochastic: Whether there is noise in any step.
    """

    times: Float[Array, " M"]
    steps: Float[Array, "M 7"]
    bases: Float[Array, "M 7"] | None = None
    stochastic: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearSampler(Threshold, abc.ABC):
    """What samplers with a table of coefficients share.

    Attributes:
        threshold: What keeps estimates of data in [-1, 1]: ``"none"``, ``"static"``, ``"dynamic"``.
        quantile: Quantile of the dynamic threshold.
        times: How steps are spread over time: see :func:`~genjax.diffusion.time_grid`.
        rho: Exponent of ``times="karras"``.
    """

    times: Spacing = "uniform"
    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times not in SPACINGS:
            raise ValueError(f"times must be one of {', '.join(SPACINGS)}, got {self.times!r}")
        if not self.rho > 0:
            raise ValueError(f"rho must be positive, got {self.rho}")

    @abc.abstractmethod
    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""

    def num_calls(self, num_steps: int, *, ends_clean: bool = True) -> int:
        """Network calls of so many steps, without those of guidance."""
        return num_steps

    def sample(
        self,
        denoiser: Denoiser,
        key: PRNGKeyArray,
        z: Float[Array, "B *event"],
        *,
        num_steps: int,
        num_frames: int = 1,
    ) -> tuple[Float[Array, "B *event"], Float[Array, "F B *event"]]:
        """Goes from noise to data.

        Args:
            denoiser: What is asked.
            key: Key of all noise.
            z: Latents at time 1, ``[B, *event]``.
            num_steps: Number of steps.
            num_frames: Latents to keep, evenly spread over the network calls.

        Returns:
            Samples in the units of the data, and the latents kept, ``[num_frames, B, *event]``.

        Raises:
            ValueError: If ``num_steps`` is not positive, or ``num_frames`` not between 1 and it.
        """
        check_steps(num_steps, num_frames)
        grid = time_grid(denoiser.process, num_steps, self.times, rho=self.rho)
        z, frames = run_table(
            self.of(denoiser), self.table(denoiser.process, grid), key, z, num_frames=num_frames
        )
        # Where the end is not data itself, it is alpha x and a little noise.
        return z / grid.alpha[-1].astype(z.dtype), frames


def run_table(
    denoiser: Denoiser,
    table: Table,
    key: PRNGKeyArray,
    z: Float[Array, "B *event"],
    *,
    num_frames: int = 1,
    noise_fn: Callable[[Array], Array] | None = None,
) -> tuple[Float[Array, "B *event"], Float[Array, "F B *event"]]:
    """Runs a table of coefficients.

    Args:
        denoiser: What is asked.
        table: The coefficients.
        key: Key of all noise.
        z: Latents at the first time, ``[B, *event]``.
        num_frames: Latents to keep, evenly spread over the calls.
        noise_fn: The noise ``[B, *event]`` of the call of a number; draws from the key if None.

    Returns:
        The last latents, and those kept, ``[num_frames, B, *event]``.
    """
    num_calls, step = table.times.shape[0], table_step(table, key, z.dtype, noise_fn)

    def body(call: Array, carry: tuple[Walk, Array]) -> tuple[Walk, Array]:
        walk, frames = carry
        newest = denoiser.estimate(denoiser.spread(walk.z), table.times[call]).data
        walk = step(call, walk, newest)
        # Each frame is overwritten until its stretch of calls ends.
        frame = call * num_frames // num_calls
        return walk, jax.lax.dynamic_update_index_in_dim(frames, walk.z, frame, 0)

    frames = jnp.zeros((num_frames, *z.shape), z.dtype)
    walk, frames = jax.lax.fori_loop(0, num_calls, body, (Walk.begin(z), frames))
    return walk.z, frames


class Walk(NamedTuple):
    """Where a sampler is between two calls.

    Attributes:
        z: The latents to ask about next, ``[B, *event]``.
        base: Latents kept from before, alike.
        past: The last three estimates of the data, the newest first, alike.
    """

    z: Array
    base: Array
    past: tuple[Array, ...]

    @classmethod
    def begin(cls, z: Array) -> "Walk":
        """Before the first call."""
        return cls(z, z, (jnp.zeros_like(z),) * _PAST)


def table_step(
    table: Table,
    key: PRNGKeyArray,
    dtype: jnp.dtype,
    noise_fn: Callable[[Array], Array] | None = None,
) -> Callable[[Array, Walk, Array], Walk]:
    """What a table says of a call once the data is estimated.

    Args:
        table: The coefficients.
        key: Key of all noise.
        dtype: Type of the latents.
        noise_fn: The noise ``[B, *event]`` of the call of a number; draws from the key if None.

    Returns:
        ``(call, walk, estimate of the data) -> walk`` after the call.
    """
    steps = table.steps.astype(dtype)
    bases = None if table.bases is None else table.bases.astype(dtype)

    def mixed(row: Array, z: Array, base: Array, estimates: tuple[Array, ...]) -> Array:
        parts = (z, base, *estimates)
        return sum((row[i] * part for i, part in enumerate(parts)), start=jnp.zeros_like(z))

    def step(call: Array, walk: Walk, newest: Array) -> Walk:
        z, base, past = walk
        estimates = (newest, *past)
        after = mixed(steps[call], z, base, estimates)
        kept = after if bases is None else mixed(bases[call], z, base, estimates)
        if table.stochastic:
            if noise_fn is not None:
                noise = noise_fn(call)
            else:
                # The noise of call i comes from the key and i: calls need no carry of keys.
                noise = jax.random.normal(jax.random.fold_in(key, call), z.shape, z.dtype)
            after = after + steps[call, -1] * noise
            kept = after if bases is None else kept + bases[call, -1] * noise
        return Walk(after, kept, estimates[:_PAST])

    return step


def rows(
    like: Float[Array, " M"],
    *,
    latent: Array | float = 0.0,
    base: Array | float = 0.0,
    estimates: tuple[Array | float, ...] = (),
    noise: Array | float = 0.0,
) -> Float[Array, "M 7"]:
    """Coefficients of calls, column by column, each a number or ``[M]``.

    Args:
        like: Times of the calls.
        latent: Coefficients of the latent asked about.
        base: Coefficients of the base.
        estimates: Coefficients of the estimates, the newest first; 0 of those left out.
        noise: Coefficients of fresh noise.

    Returns:
        The table.
    """
    past = (*estimates, *(0.0,) * (_PAST + 1 - len(estimates)))
    columns = (latent, base, *past, noise)
    return jnp.stack([jnp.broadcast_to(jnp.asarray(c, like.dtype), like.shape) for c in columns], 1)
