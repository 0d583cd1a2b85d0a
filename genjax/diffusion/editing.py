r"""Editing by what a sampler is told and where it begins: inpainting, variations, interpolation.

Whatever asks a :class:`~genjax.diffusion.Denoiser` can ask another one in its place, so an edit is
a denoiser made from a denoiser, and every sampler edits. Edits of the middle of the network are in
:mod:`genjax.diffusion.bottleneck`.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from genjax.diffusion.grid import Grid
from genjax.diffusion.predictions import Estimate
from genjax.diffusion.process import Process, Scales, diffuse
from genjax.diffusion.samplers.base import Denoiser
from genjax.diffusion.samplers.first_order import DDIM
from genjax.diffusion.samplers.linear import Table


def slerp(
    a: Float[Array, "B *event"], b: Float[Array, "B *event"], shares: Float[Array, " F"]
) -> Float[Array, "F B *event"]:
    r"""Points on the way from one latent to another that have lengths as latents have.

    .. math:: \frac{\sin((1 - s)\omega)}{\sin\omega} a + \frac{\sin(s\omega)}{\sin\omega} b

    with the angle :math:`\omega` of the two. In many dimensions normal latents lie near a sphere,
    which straight lines leave.

    Args:
        a: Where the ways begin, ``[B, *event]``.
        b: Where they end.
        shares: Places on the way, 0 for the beginning.

    Returns:
        The points, ``[F, B, *event]``. Where the two have one direction, or opposite ones, they are
        those of the straight line.

    Example:
        >>> slerp(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.array([0.5])).round(4)
        Array([[[0.7071, 0.7071]]], dtype=float32)

    References:
        Shoemake, Animating Rotation with Quaternion Curves, 1985, section 3.3; Song et al.,
        arXiv:2010.02502, appendix D.5.
    """
    flat_a, flat_b = (x.reshape(x.shape[0], -1) for x in (a, b))
    lengths = jnp.linalg.norm(flat_a, axis=1) * jnp.linalg.norm(flat_b, axis=1)
    cosine = jnp.sum(flat_a * flat_b, axis=1) / jnp.maximum(lengths, 1e-12)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    sine = jnp.sin(angle)
    share = shares[:, None]
    straight = sine < 1e-4
    safe = jnp.where(straight, 1.0, sine)
    of_a = jnp.where(straight, 1.0 - share, jnp.sin((1.0 - share) * angle) / safe)
    of_b = jnp.where(straight, share, jnp.sin(share * angle) / safe)
    # One weight for each place and row, before the axes of an example.
    of_a, of_b = (w.reshape(*w.shape, *(1,) * (a.ndim - 1)) for w in (of_a, of_b))
    return of_a * a + of_b * b


@dataclasses.dataclass(frozen=True)
class Shortened:
    """A process cut off at a time, which becomes its time 1.

    Attributes:
        process: The process.
        latest: The time, above its ``earliest`` and at most 1.
    """

    process: Process
    latest: float

    def __post_init__(self) -> None:
        if not self.process.earliest < self.latest <= 1.0:
            raise ValueError(
                f"expected a time above {self.process.earliest:g}, the earliest of the process, "
                f"and at most 1, got {self.latest}"
            )

    @property
    def earliest(self) -> float:
        """Least time at which a network is asked."""
        return self.process.earliest / self.latest

    @property
    def ends_clean(self) -> bool:
        """Whether samples end in data itself."""
        return self.process.ends_clean

    @property
    def prior_std(self) -> float:
        """That of the whole process: latents at a time before 1 have no prior."""
        return self.process.prior_std

    def scales(self, times: Float[Array, "*shape"]) -> Scales:
        """The two scales at times in [0, 1]."""
        return self.process.scales(self.latest * times)

    def times_of(self, shares: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Those of the whole process, in this one's time."""
        return self.process.times_of(shares) / self.latest


def shortened(denoiser: Denoiser, latest: float) -> Denoiser:
    """A denoiser whose samplers begin at a time before 1, with latents of that time.

    That is SDEdit, or image to image: noise is added to an example up to the time, and a sampler
    takes it off again. The later the time, the less is kept of the example.

    Args:
        denoiser: The denoiser.
        latest: The time to begin at.

    Returns:
        The denoiser of the :class:`Shortened` process.

    Raises:
        ValueError: If the time is not above the earliest of the process and at most 1.

    References:
        Meng et al., SDEdit, arXiv:2108.01073, algorithm 1.
    """
    process = Shortened(denoiser.process, latest)

    def estimate(z: Array, t: Array) -> Estimate:
        return denoiser.estimate(z, latest * t)

    return Denoiser(process, estimate, denoiser.spread)


def with_known(
    denoiser: Denoiser, x: Float[Array, "B *event"], mask: Bool[Array, "B *event"]
) -> Denoiser:
    r"""A denoiser that knows some entries of the data.

    There its estimate is the data itself. A sampler then takes the latents of these entries through
    the process that adds noise to them, backwards: the ancestral one draws them from
    :math:`q(z_s \mid z_t, x)`, a deterministic one moves them along one draw of noise. That is
    inpainting by replacement, for any sampler.

    Samples are not quite those of the model given what is known: latents of the unknown part are
    drawn before the noise of the known part is taken off, which does not depend on them.
    :class:`Resampling` lessens that.

    Args:
        denoiser: The denoiser.
        x: The data, in the units of the process; read where it is known.
        mask: Whether an entry is known.

    Returns:
        The denoiser. Sampling begins with :func:`known_latents`.

    References:
        Song et al., arXiv:2011.13456, appendix I.2; Trippe et al., arXiv:2206.04119, section 3, for
        what replacement misses.
    """

    def estimate(z: Array, t: Array) -> Estimate:
        alpha, sigma = denoiser.process.scales(t)
        data, noise = denoiser.estimate(z, t)
        own = (z - alpha * x) / jnp.maximum(sigma, 1e-12)
        return Estimate(jnp.where(mask, x, data), jnp.where(mask, own, noise))

    return Denoiser(denoiser.process, estimate, denoiser.spread)


def known_latents(
    process: Process,
    x: Float[Array, "B *event"],
    mask: Bool[Array, "B *event"],
    z: Float[Array, "B *event"],
) -> Float[Array, "B *event"]:
    """Latents at time 1 of data that is known in part.

    Args:
        process: The process.
        x: The data, read where it is known.
        mask: Whether an entry is known.
        z: Latents at time 1 of unknown data.

    Returns:
        The latents: where the data is known, of the same noise.
    """
    alpha, sigma = process.scales(jnp.ones((), z.dtype))
    return jnp.where(mask, diffuse(x, z / process.prior_std, alpha, sigma), z)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resampling(DDIM):
    r"""RePaint's walk: after every few steps noise is added again, and the steps are taken anew.

    With :func:`with_known` each repetition brings the unknown part closer to what is known. In a
    jump from s back to t the latent becomes :math:`\frac{\alpha_t}{\alpha_s} z_s` and noise of the
    process from s to t.

    Attributes:
        eta: As of :class:`~genjax.diffusion.DDIM`; 1 for the ancestral sampler, as in the paper.
        jump_length: Steps that a jump goes back.
        num_resamplings: How often each stretch of that many steps is taken in all; 1 for no jumps.

    References:
        Lugmayr et al., RePaint, arXiv:2201.09865, algorithm 1 and appendix B.
    """

    eta: float = 1.0
    jump_length: int = 10
    num_resamplings: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jump_length < 1 or self.num_resamplings < 1:
            raise ValueError(
                "jump_length and num_resamplings must be at least 1, got "
                f"{self.jump_length} and {self.num_resamplings}"
            )

    def num_calls(self, num_steps: int, *, ends_clean: bool = True) -> int:
        """Network calls of so many steps."""
        return len(self.walk(num_steps)[0])

    def walk(self, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps in the order in which they are taken.

        Args:
            num_steps: Steps from noise to data.

        Returns:
            For each step its number, and the number of the step that follows it: of the next one,
            or of the one that a jump goes back to.

        Raises:
            ValueError: If a jump is longer than the walk.

        Example:
            >>> Resampling(jump_length=2, num_resamplings=2).walk(4)[0]
            array([0, 1, 0, 1, 2, 3, 2, 3])
        """
        if self.jump_length > num_steps:
            raise ValueError(
                f"jump_length must be at most the {num_steps} steps, got {self.jump_length}"
            )
        # Jumps begin where a multiple of their length is left of the way, as in the paper.
        begin = num_steps % self.jump_length
        left = {
            place: self.num_resamplings - 1
            for place in range(begin + self.jump_length, num_steps + 1, self.jump_length)
        }
        taken, then, place = [], [], 0
        while place < num_steps:
            taken.append(place)
            place += 1
            if left.get(place):
                left[place] -= 1
                place -= self.jump_length
            then.append(place)
        return np.array(taken), np.array(then)

    def table(self, process: Process, grid: Grid) -> Table:
        """The coefficients for the steps of a grid of a process."""
        once = super().table(process, grid).steps
        taken, then = self.walk(len(grid.times))
        kept = grid.alpha[then] / grid.alpha[taken + 1]
        added = jnp.square(grid.sigma[then]) - jnp.square(kept * grid.sigma[taken + 1])
        # There and back is one step: a sum of latents and estimates, and two draws of noise.
        steps = kept[:, None] * once[taken]
        noise = jnp.sqrt(jnp.square(steps[:, -1]) + jnp.where(then > taken, 0.0, added))
        return Table(grid.times[taken], steps.at[:, -1].set(noise), stochastic=True)
