"""How families of denoising models draw samples: a sampler, guidance and what is shown."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.devices import spread_rows
from genjax.diffusion import (
    ClassifierFree,
    ClassifierGuidance,
    Denoiser,
    Estimate,
    Process,
    Sampler,
)
from genjax.diffusion.guidance import EstimateFn, Guidance
from genjax.diffusion.samplers import prior_latents
from genjax.families.base import Batch, Denoising, Params, Samples
from genjax.families.levels import Reals, Units
from genjax.families.middle import Asked, bottleneck_of
from genjax.families.told import Told

NEGATIVE = "negative_"
"""Before the name of a feature: what samples are to be guided away from."""
ADAPTIVE = "as many network calls as it takes"
"""What is said of adaptive methods."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """What the ``sample`` section says of how samples are drawn.

    Attributes:
        num_steps: Steps of the sampler.
        sampler: How noise becomes data; the family's own way if None.
        guidance: What makes samples of a class more typical of it; None for none.
    """

    num_steps: int = 1000
    sampler: Sampler | None = None
    guidance: Guidance | None = None

    def check(
        self,
        *,
        reads: tuple[str, ...],
        units: Units,
        optional: tuple[str, ...] | None = None,
        drops_labels: bool = True,
        process: Process | None = None,
    ) -> None:
        """Refuses what does not fit a model.

        Args:
            reads: Features of a batch that the model is told.
            units: Its units.
            optional: Those of the features that it can do without; None for all.
            drops_labels: Whether it has been trained without being told anything, too.
            process: Its process, where no parameters change it.

        Raises:
            ValueError: If guidance or thresholds do not fit.
        """
        guidance, optional = self.guidance, reads if optional is None else optional
        if isinstance(guidance, ClassifierFree) and not optional:
            raise ValueError(
                "sample.guidance: classifier-free guidance needs a model that takes labels: set "
                "model.num_classes and family.label_dropout"
            )
        if isinstance(guidance, ClassifierGuidance) and reads not in ((), ("label",)):
            raise ValueError(
                "sample.guidance: a classifier guides to labels, but the model is told "
                f"{', '.join(reads)}: take classifier_free"
            )
        free = isinstance(guidance, ClassifierFree) and guidance != ClassifierFree()
        if free and not drops_labels:
            raise ValueError(
                "sample.guidance: classifier-free guidance needs a model trained without labels, "
                "too: set family.label_dropout to 0.1, say"
            )
        if isinstance(guidance, ClassifierGuidance):
            if reads and not drops_labels and not guidance.tells_label:
                raise ValueError(
                    "sample.guidance: the model has never been without a label: set "
                    "sample.guidance.tells_label, or train it with family.label_dropout"
                )
            if process is not None:
                try:
                    guidance.check(process)
                except ValueError as error:
                    raise ValueError(f"sample.guidance: {error}") from error
        if isinstance(units, Reals) and getattr(self.sampler, "threshold", "none") != "none":
            raise ValueError(
                "sample.sampler.threshold is for images of grey levels: real-valued data has no "
                "interval"
            )

    def record(
        self,
        *,
        reads: tuple[str, ...],
        optional: tuple[str, ...],
        drops_labels: bool,
        default: Sampler,
        ends_clean: bool,
        own: str | None = None,
    ) -> dict[str, Any]:
        """What the record of a family says of its samples.

        Args:
            reads: Features of a batch that the model is told.
            optional: Those of them that it can do without.
            drops_labels: Whether it has been trained without being told them, too.
            default: The sampler where none is asked for.
            ends_clean: Whether samples of its process end in data itself.
            own: What is to be said where neither a sampler nor guidance is asked for; None for what
                is said of ``default``.

        Returns:
            ``reads``, ``steers``, ``unlabelled`` and ``sample_protocol`` of
            :class:`~genjax.families.base.Family`.
        """
        # Guidance is to a label, whether or not the model takes any.
        steers = ("label",) if self.guidance is not None and not reads else ()
        reads, optional = reads or steers, optional or steers
        if own is None or self.sampler is not None or self.guidance is not None:
            own = self.in_words(default, ends_clean=ends_clean)
        return {
            "reads": reads,
            "steers": steers,
            "unlabelled": optional if steers or drops_labels else (),
            "sample_protocol": {"sampler": own},
        }

    def in_words(self, default: Sampler, *, ends_clean: bool) -> str:
        """Sampler, network calls of a sample and guidance, for protocols."""
        sampler = self.sampler or default
        calls = sampler.num_calls(self.num_steps, ends_clean=ends_clean)
        plural = "" if calls == 1 else "s"
        counted = ADAPTIVE if calls is None else f"{calls} network call{plural}"
        if isinstance(self.guidance, ClassifierFree) and self.guidance.asks_twice:
            most = ADAPTIVE if calls is None else f"{2 * calls} network calls"
            counted = f"{most}, half of them without the label"
            if not self.guidance.always and calls is not None:
                counted = f"{calls} to {2 * calls} network calls"
        guided = [] if self.guidance is None else [str(self.guidance)]
        return ", ".join([type(sampler).__name__, counted, *guided])

    def told(self, batch: Batch, told: Told) -> Told:
        """What the model is told of a batch, or else what guidance is to.

        Args:
            batch: Its rows.
            told: What the model is told of them; None of a model that is told nothing.

        Returns:
            See :mod:`genjax.families.told`.
        """
        return told if told is not None or self.guidance is None else batch["label"]

    def against(self, batch: Batch, told: Told, optional: tuple[str, ...]) -> Told:
        """What samples are guided away from.

        Args:
            batch: Its rows, which may have ``negative_tokens``, say, beside ``tokens``.
            told: What the model is told of them.
            optional: Features that it can do without.

        Returns:
            What is told in place of nothing, beside all else that the model is told; None where
            nothing is to be.

        Raises:
            ValueError: If there is something, but no guidance.
        """
        asked = [name for name in optional if f"{NEGATIVE}{name}" in batch]
        named = {name: batch[f"{NEGATIVE}{name}"] for name in asked}
        if not named:
            return None
        if self.guidance is None:
            raise ValueError(
                f"{NEGATIVE}{next(iter(named))}: there is nothing that guides away from it: set "
                "sample.guidance to dict(name='classifier_free', scale=2.0), say"
            )
        return {**told, **named} if isinstance(told, Mapping) else named["label"]

    def denoiser(
        self, process: Process, estimate_fn: EstimateFn, told: Told, against: Told = None
    ) -> Denoiser:
        """What samplers ask, guided."""
        if self.guidance is not None and told is not None:
            guided = self.guidance.guided(process, estimate_fn, told, against)
            return Denoiser(process, guided, spread_rows)

        def estimate(z: Array, t: Array) -> Estimate:
            return estimate_fn(z, t, told)

        return Denoiser(process, estimate, spread_rows)

    def denoising(
        self,
        model: Asked,
        params: Params,
        process: Process,
        told: Told,
        *,
        default: Sampler,
    ) -> Denoising:
        """What edits ask.

        Args:
            model: The model.
            params: Its parameters.
            process: The process.
            told: What samples are guided to or the model is told, or None.
            default: The sampler where none is asked for.

        Returns:
            The model as samples are drawn from it.
        """

        def estimate_fn(model: Asked) -> EstimateFn:
            return told_if(bool(model.reads), functools.partial(model.estimate, params))

        def guided(estimate_fn: EstimateFn) -> Callable[[Array, Array], Estimate]:
            return self.denoiser(process, estimate_fn, told).estimate

        guides = self.guidance is not None and told is not None
        bottleneck = bottleneck_of(
            model, model.event_shape, estimate_fn, guided if guides else None, told
        )
        return Denoising(
            denoiser=dataclasses.replace(
                self.denoiser(process, estimate_fn(model), told), bottleneck=bottleneck
            ),
            sampler=self.sampler or default,
            num_steps=self.num_steps,
            # Of bins their centres.
            encode=lambda x: model.units.encode(x, jnp.full(x.shape, 0.5)),
            decode=model.units.decode,
        )

    def draw(
        self,
        process: Process,
        estimate_fn: EstimateFn,
        key: PRNGKeyArray,
        shape: tuple[int, ...],
        told: Told,
        *,
        against: Told = None,
        default: Sampler,
        units: Units,
        trajectory: "Trajectory",
    ) -> Samples:
        """Samples, and the way of the first of them.

        Args:
            process: The process.
            estimate_fn: The model's estimates.
            key: Key of all draws.
            shape: Shape of the samples, ``[B, *event]``.
            told: What the model is told or guidance is to, or None.
            against: What guidance is away from, or None.
            default: The sampler where none is asked for.
            units: Units of the model.
            trajectory: What is kept of the way.

        Returns:
            The samples.
        """
        key, prior = prior_latents(process, key, shape)
        rows, latents = (self.sampler or default).sample(
            self.denoiser(process, estimate_fn, told, against),
            key,
            prior,
            num_steps=self.num_steps,
            num_frames=min(trajectory.num_frames, self.num_steps),
        )
        kept = latents[:, : trajectory.count(shape[1:])]
        return Samples(rows=units.decode(rows), trajectory=units.decode(kept))


def told_if(conditional: bool, estimate_fn: EstimateFn) -> EstimateFn:
    """Estimates by a model that is told something, or by one to which a guide's label is nothing.

    Args:
        conditional: Whether the model is told anything.
        estimate_fn: Its estimates.

    Returns:
        Estimates of latents, times and what is told in either case.
    """
    if conditional:
        return estimate_fn
    return lambda z, t, told: estimate_fn(z, t, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What is kept of the way from noise to samples: keys of the family.

    Attributes:
        num_trajectories: Samples whose trajectory is kept; None for 8 images (each a row of the
            picture) or 2,000 points (of which a picture takes many).
        num_frames: Frames of a trajectory.
    """

    num_trajectories: int | None = None
    num_frames: int = 8

    def __post_init__(self) -> None:
        for name in ("num_trajectories", "num_frames"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def count(self, event_shape: tuple[int, ...]) -> int:
        """Number of samples whose trajectory is kept."""
        if self.num_trajectories is not None:
            return self.num_trajectories
        return 2000 if len(event_shape) == 1 else 8
