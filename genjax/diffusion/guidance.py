r"""Guidance: samples of a class that are more typical of it than its data.

Guidance changes what a sampler is told, not the model: it is a value that joins estimates with and
without a label. At a fixed latent, data, noise, v, velocity and score are affine functions of each
other, so that guidance of one is guidance of all.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from genjax.diffusion.predictions import Estimate
from genjax.diffusion.process import LEAST_SCALE, Process, time_of
from genjax.losses.arrays import per_row

NO_LABEL = -1
"""In place of a class id: no label is told."""

EstimateFn: TypeAlias = Callable[[Array, Array, Any], Estimate]
"""``(z [B, *event], t [], told) -> Estimate``, told class ids ``[B]``, None, or a mapping."""

_Told = TypeVar("_Told")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Always:
    """What is told in any case, such as the image that is to be enlarged.

    Guidance and label dropout leave it as it is.

    Attributes:
        value: An array ``[B, ...]``, or a tree of several.
    """

    value: Any


def is_always(told: Any) -> bool:
    """Whether a part of what is told is told in any case: where trees of it are not gone into."""
    return isinstance(told, Always)


def untold(told: _Told) -> _Told:
    """What tells nothing, in place of what is told.

    Args:
        told: Class ids ``[B]``, or a mapping of arrays ``[B, ...]``.

    Returns:
        The same with whole numbers of -1 and real numbers of 0, but for what is told
        :class:`Always`.

    Example:
        >>> untold({"tokens": jnp.array([[3, 4]])})["tokens"].tolist()
        [[-1, -1]]
    """

    def nothing(array: Any) -> Any:
        if is_always(array):
            return array
        whole = jnp.issubdtype(array.dtype, jnp.integer)
        return jnp.full_like(array, NO_LABEL if whole else 0)

    return jax.tree.map(nothing, told, is_leaf=is_always)


@runtime_checkable
class Guidance(Protocol):
    """What turns the estimates of a conditional model into guided ones."""

    def guided(
        self, process: Process, estimate_fn: EstimateFn, label: Any, against: Any = None
    ) -> Callable[[Array, Array], Estimate]:
        """Estimates ``(z, t) -> Estimate`` for rows that something is told of.

        ``against`` is what samples are guided away from, in place of nothing told.
        """
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierFree:
    r"""Classifier-free guidance, :math:`\hat x = \hat x_\varnothing + w (\hat x_c -
    \hat x_\varnothing)`.

    With scale 1 it is the conditional model, with 0 the unconditional one. Two conventions are in
    use: the paper writes :math:`(1 + w')\hat x_c - w'\hat x_\varnothing`, with
    :math:`w' = w - 1`, so that no guidance is 0 there and 1 here. The model must have been trained
    with labels left out (``label_dropout``). A label of -1 has nothing to be guided to.

    With a scale other than 1 samples are not those of :math:`p(x) p(c \mid x)^w`: at each time the
    score is that of the noisy density times a power of the noisy posterior, which is not the score
    of the noisy version of the tilted density.

    Attributes:
        scale: The scale ``w``.
        rescale: Share of the way by which the standard deviation of an estimate of the data, over
            an example's entries, is brought back to that of the conditional estimate, in [0, 1].
        start: Time from which on guidance acts, going down from 1.
        stop: Time at which it ends. Outside of both the model is the conditional one, of half the
            rows a call.

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

    @property
    def always(self) -> bool:
        """Whether it acts at all times."""
        return (self.start, self.stop) == (1.0, 0.0)

    @property
    def asks_twice(self) -> bool:
        """Whether the network is asked with and without the label where it acts."""
        return self.scale != 1.0 or self.rescale > 0.0

    def __str__(self) -> str:
        """What protocols say of it."""
        inside = "" if self.always else (
            f" from time {self.start:g} to {self.stop:g}"
        )  # fmt: skip
        rescaled = f", rescaled by {self.rescale:g}" if self.rescale else ""
        return f"guidance {self.scale:g}{inside}{rescaled}"

    def guided(
        self, process: Process, estimate_fn: EstimateFn, label: Any, against: Any = None
    ) -> Callable[[Array, Array], Estimate]:
        """Estimates ``(z, t) -> Estimate`` for rows of given classes, texts or whatever is told.

        Args:
            process: The process.
            estimate_fn: The model's estimates.
            label: What it is told.
            against: What is told in place of nothing, so that samples are guided away from it: a
                negative prompt.

        Returns:
            The guided estimates.
        """
        other = untold(label) if against is None else against

        def both(z: Array, t: Array) -> Estimate:
            # One call for the two, of twice the rows.
            each = jax.tree.map(lambda *two: jnp.concatenate(two), label, other)
            halves = estimate_fn(jnp.concatenate([z, z]), t, each)
            with_it, without = (Estimate(*(a[part] for a in halves)) for part in _halves(len(z)))
            joined = self.joined(with_it, without)
            if not self.rescale:
                return joined
            # What the data loses is noise: the latent is made of both.
            alpha, sigma = process.scales(t)
            return Estimate(
                joined.data, (z - alpha * joined.data) / jnp.maximum(sigma, LEAST_SCALE)
            )

        def estimate(z: Array, t: Array) -> Estimate:
            if not self.asks_twice:
                return estimate_fn(z, t, label)
            if self.always:
                return both(z, t)
            inside = (t <= self.start) & (t >= self.stop)
            return jax.lax.cond(inside, both, lambda z, t: estimate_fn(z, t, label), z, t)

        return estimate

    def joined(self, told: Estimate, untold: Estimate) -> Estimate:
        """The guided estimate from the conditional and the unconditional one.

        The noise is that before the data is rescaled.
        """
        data, noise = (u + self.scale * (c - u) for c, u in zip(told, untold, strict=True))
        if not self.rescale:
            return Estimate(data, noise)
        axes = tuple(range(1, data.ndim))
        ratio = jnp.std(told.data, axis=axes) / jnp.maximum(jnp.std(data, axis=axes), 1e-12)
        factor = per_row(1.0 + self.rescale * (ratio - 1.0), data)
        return Estimate(factor * data, noise)


def _halves(count: int) -> tuple[slice, slice]:
    """The rows with a label, and those without."""
    return slice(0, count), slice(count, None)


LogProbFn: TypeAlias = Callable[[Array, Array, Array], Array]
"""``(z [B, *event], t [], label [B]) -> log p(label | z) [B]``."""

MOST_NOISE = 20.0
r"""Noise :math:`\sigma/\alpha` of data in [-1, 1] at which little is left to tell classes by."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierGuidance:
    r"""Guidance by a classifier of latents: the score becomes
    :math:`\hat s + w \nabla_z \log p(c \mid z_t)`.

    With the exact classifier and scale 1 an unconditional model samples the class. The classifier
    may be one of latents of another process: they are latents of this one, up to their scale, at
    the time of the same signal-to-noise ratio. At more noise than it was trained on it has no say,
    nor for a label of -1.

    Attributes:
        log_prob_fn: The classifier, ``(z, t, label) -> log p(label | z)``, ``[B]``, where row i
            depends on row i alone.
        scale: The scale ``w``.
        tells_label: Whether the model, if it takes labels, is told the label. If so, the scale
            counts on top of what the model makes of it.
        process: The process of the latents that the classifier takes; None for the model's.

    References:
        Dhariwal and Nichol, arXiv:2105.05233, algorithm 2 and appendix H.
    """  # noqa: D205

    log_prob_fn: LogProbFn
    scale: float = 1.0
    tells_label: bool = False
    process: Process | None = None

    def __str__(self) -> str:
        """What protocols say of it."""
        return f"classifier guidance {self.scale:g}"

    def check(self, process: Process) -> None:
        r"""Refuses a process whose noise the classifier does not know.

        Args:
            process: The process that is sampled from.

        Raises:
            ValueError: If it has more noise :math:`\sigma/\alpha` than the process of the
                classifier, and that has less than :data:`MOST_NOISE`.
        """
        if self.process is None:
            return
        # Processes are of a few numbers: computed now, where guidance is traced, too.
        with jax.ensure_compile_time_eval():
            own, other = (
                float(scales.sigma / jnp.maximum(scales.alpha, LEAST_SCALE))
                for scales in (p.scales(jnp.ones(())) for p in (self.process, process))
            )
        if own < min(other, MOST_NOISE):
            raise ValueError(
                f"the classifier was trained on noise of at most {own:.3g} times the data, but "
                f"samples start from {min(other, 1e12):.3g} times: train one on the process of the "
                "model, or one with more noise"
            )

    def guided(
        self,
        process: Process,
        estimate_fn: EstimateFn,
        label: Int[Array, " B"],
        against: Any = None,
    ) -> Callable[[Array, Array], Estimate]:
        """Estimates ``(z, t) -> Estimate`` for rows of given classes.

        Raises:
            ValueError: If there is something to guide away from.
        """
        if against is not None:
            raise ValueError(
                "sample.guidance: a classifier guides to classes, away from none: take "
                "classifier_free for what samples are not to be"
            )
        told = label if self.tells_label else jnp.full_like(label, NO_LABEL)
        # A class for the rows without one, whose slopes are left out.
        asked = jnp.maximum(label, 0)

        def log_probs(z: Array, t: Array) -> Array:
            if self.process is None or self.process == process:
                return self.log_prob_fn(z, t, asked)
            scales = process.scales(t)
            time = jnp.maximum(time_of(self.process, scales.lam), self.process.earliest)
            own = self.process.scales(time)
            return self.log_prob_fn(own.alpha / scales.alpha * z, time, asked)

        def known(t: Array) -> Array:
            """Whether the classifier has seen as much noise."""
            if self.process is None or self.process == process:
                return jnp.ones((), bool)
            least = self.process.scales(jnp.ones_like(t)).lam
            # A little more noise than that is its own, but for rounding.
            return process.scales(t).lam >= least - 1e-3

        def estimate(z: Array, t: Array) -> Estimate:
            alpha, sigma = process.scales(t)
            slope = jax.grad(lambda z: jnp.sum(log_probs(z, t)))(z)
            counts = per_row((known(t) & (label >= 0)).astype(z.dtype), z) > 0
            data, noise = estimate_fn(z, t, told)
            # The noise is minus sigma times the score, and z = alpha x + sigma noise.
            moved = jnp.where(counts, self.scale * sigma * slope, jnp.zeros_like(z))
            return Estimate(data + sigma / alpha * moved, noise - moved)

        return estimate
