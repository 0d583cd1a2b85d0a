r"""Guidance: samples of a class that are more typical of it than its data.

Guidance changes what a sampler is told, not the model: it is a value that joins estimates with and
without a label. At a fixed latent, data, noise, v, velocity and score are affine functions of each
other, so that guidance of one is guidance of all.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from genjax.diffusion.predictions import Estimate
from genjax.diffusion.process import Process
from genjax.losses.arrays import per_row

NO_LABEL = -1
"""In place of a class id: no label is told."""

EstimateFn: TypeAlias = Callable[[Array, Array, Array | None], Estimate]
"""``(z [B, *event], t [], label [B] or None) -> Estimate``."""


class Guidance(Protocol):
    """What turns the estimates of a conditional model into guided ones."""

    def guided(
        self, process: Process, estimate_fn: EstimateFn, label: Int[Array, " B"]
    ) -> Callable[[Array, Array], Estimate]:
        """Estimates ``(z, t) -> Estimate`` for rows of given classes."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    r"""Classifier-free guidance, :math:`\hat x = \hat x_\varnothing + w (\hat x_c -
    \hat x_\varnothing)`.

    With scale 1 it is the conditional model, with 0 the unconditional one. (The paper writes
    :math:`(1 + w)\hat x_c - w\hat x_\varnothing`: its ``w`` is this scale less 1.) The model must
    have been trained with labels left out (``label_dropout``). With ``w`` other than 1 samples are
    not those of :math:`p(x) p(c \mid x)^w`, whose noisy marginals have other scores.

    Attributes:
        scale: The scale ``w``.
        rescale: Share of the estimate whose standard deviation over an example's entries is
            brought back to that of the conditional one, in [0, 1].
        start: Time from which on guidance acts, going down from 1.
        stop: Time at which it ends. Outside of both the model is the conditional one.

    References:
        Ho and Salimans, arXiv:2207.12598, eq. 6; Lin et al., arXiv:2305.08891, section 3.4, for the
        rescaling; Kynkäänniemi et al., arXiv:2404.07724, for the interval.
    """  # noqa: D205

    scale: float = 1.0
    rescale: float = 0.0
    start: float = 1.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"rescale must be in [0, 1], got {self.rescale}")
        if not 0.0 <= self.stop < self.start <= 1.0:
            raise ValueError(
                f"expected 0 <= stop < start <= 1, got stop {self.stop} and start {self.start}"
            )

    def guided(
        self, process: Process, estimate_fn: EstimateFn, label: Int[Array, " B"]
    ) -> Callable[[Array, Array], Estimate]:
        """Estimates ``(z, t) -> Estimate`` for rows of given classes."""
        del process

        def both(z: Array, t: Array) -> Estimate:
            # One call for the two, of twice the rows.
            labels = jnp.concatenate([label, jnp.full_like(label, NO_LABEL)])
            halves = estimate_fn(jnp.concatenate([z, z]), t, labels)
            told, untold = (Estimate(*(a[part] for a in halves)) for part in _halves(z.shape[0]))
            return self.joined(told, untold)

        def estimate(z: Array, t: Array) -> Estimate:
            if self.scale == 1.0 and not self.rescale:
                return estimate_fn(z, t, label)
            if (self.start, self.stop) == (1.0, 0.0):
                return both(z, t)
            inside = (t <= self.start) & (t >= self.stop)
            return jax.lax.cond(inside, both, lambda z, t: estimate_fn(z, t, label), z, t)

        return estimate

    def joined(self, told: Estimate, untold: Estimate) -> Estimate:
        """The guided estimate from the conditional and the unconditional one."""
        data, noise = (u + self.scale * (c - u) for c, u in zip(told, untold, strict=True))
        if not self.rescale:
            return Estimate(data, noise)
        axes = tuple(range(1, data.ndim))
        ratio = jnp.std(told.data, axis=axes) / jnp.maximum(jnp.std(data, axis=axes), 1e-12)
        factor = per_row(1.0 + self.rescale * (ratio - 1.0), data)
        # z = alpha x + sigma noise is as before: what data loses is noise.
        return Estimate(factor * data, noise)


def _halves(count: int) -> tuple[slice, slice]:
    return slice(0, count), slice(count, None)


LogProbFn: TypeAlias = Callable[[Array, Array, Array], Array]
"""``(z [B, *event], t [], label [B]) -> log p(label | z) [B]``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierGuidance:
    r"""Guidance by a classifier of latents: the score becomes
    :math:`\hat s + w \nabla_z \log p(c \mid z_t)`.

    With the exact classifier and scale 1 an unconditional model samples the class. If the model
    takes labels itself, they are told to it as well.

    Attributes:
        log_prob_fn: The classifier, ``(z, t, label) -> log p(label | z)``, ``[B]``, where row i
            depends on row i alone.
        scale: The scale ``w``.
        tells_label: Whether the model is told the label.

    References:
        Dhariwal and Nichol, arXiv:2105.05233, algorithm 2 and appendix H.
    """  # noqa: D205

    log_prob_fn: LogProbFn
    scale: float = 1.0
    tells_label: bool = False

    def guided(
        self, process: Process, estimate_fn: EstimateFn, label: Int[Array, " B"]
    ) -> Callable[[Array, Array], Estimate]:
        """Estimates ``(z, t) -> Estimate`` for rows of given classes."""
        told = label if self.tells_label else jnp.full_like(label, NO_LABEL)

        def estimate(z: Array, t: Array) -> Estimate:
            alpha, sigma = process.scales(t)
            slope = jax.grad(lambda z: jnp.sum(self.log_prob_fn(z, t, label)))(z)
            data, noise = estimate_fn(z, t, told)
            # The noise is minus sigma times the score, and z = alpha x + sigma noise.
            moved = self.scale * sigma * slope
            return Estimate(data + sigma / alpha * moved, noise - moved)

        return estimate
