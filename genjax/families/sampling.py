"""How families of denoising models draw samples: a sampler, guidance and what is shown."""

import dataclasses
from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax.diffusion import Denoiser, Estimate, Process, Sampler
from genjax.diffusion.guidance import EstimateFn, Guidance
from genjax.diffusion.samplers import Bottleneck, prior_latents
from genjax.families.base import Denoising, Params, Samples
from genjax.families.draws import spread_rows
from genjax.families.levels import Reals, Units


class Asked(Protocol):
    """A model that samplers and edits ask."""

    @property
    def units(self) -> Units:
        """Data to the units of the process, and back."""
        ...

    @property
    def middle_shape(self) -> tuple[int, ...] | None:
        """Shape of one example's activation in the middle of the network, if it has one."""
        ...

    def estimate(
        self,
        params: Params,
        z: Array,
        t: Array,
        label: Array | None,
        delta_h: Array | None = None,
    ) -> Estimate:
        """Data and noise in latents ``[B, *event]`` at one time.

        ``delta_h`` is added to the activation in the middle of the network, where it has one.
        """
        ...

    def middle(self, params: Params, z: Array, t: Array, label: Array | None) -> Array:
        """The activation in the middle of the network, ``[B, *middle_shape]``."""
        ...


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

    def check(self, *, conditional: bool, units: Units, drops_labels: bool = True) -> None:
        """Refuses what does not fit a model.

        Args:
            conditional: Whether the model takes labels.
            units: Its units.
            drops_labels: Whether it has been trained without labels, too.

        Raises:
            ValueError: If guidance or thresholds do not fit.
        """
        from genjax.diffusion.guidance import ClassifierFree

        free = isinstance(self.guidance, ClassifierFree)
        if free and not conditional:
            raise ValueError(
                "sample.guidance: classifier-free guidance needs a model that takes labels: set "
                "model.num_classes and family.label_dropout"
            )
        if free and not drops_labels and self.guidance != ClassifierFree():
            raise ValueError(
                "sample.guidance: classifier-free guidance needs a model trained without labels, "
                "too: set family.label_dropout to 0.1, say"
            )
        if isinstance(units, Reals) and getattr(self.sampler, "threshold", "none") != "none":
            raise ValueError(
                "sample.sampler.threshold is for images of grey levels: real-valued data has no "
                "interval"
            )

    def network_calls(self, default: Sampler) -> str:
        """Steps and network calls in words, for protocols."""
        calls = (self.sampler or default).num_calls(self.num_steps)
        name = type(self.sampler or default).__name__
        counted = "adaptive" if calls is None else f"{calls} network calls"
        return f"{name}, {counted}"

    def denoiser(self, process: Process, estimate_fn: EstimateFn, label: Array | None) -> Denoiser:
        """What samplers ask, guided."""
        if self.guidance is not None and label is not None:
            guided = self.guidance.guided(process, estimate_fn, label)
            return Denoiser(process, guided, spread_rows)

        def estimate(z: Array, t: Array) -> Estimate:
            return estimate_fn(z, t, label)

        return Denoiser(process, estimate, spread_rows)

    def denoising(
        self,
        model: Asked,
        params: Params,
        process: Process,
        label: Array | None,
        *,
        default: Sampler,
    ) -> Denoising:
        """What edits ask.

        Args:
            model: The model.
            params: Its parameters.
            process: The process.
            label: Class ids, ``[B]``, or None.
            default: The sampler where none is asked for.

        Returns:
            The model as samples are drawn from it.
        """

        def denoiser(delta_h: Array | None = None) -> Denoiser:
            def estimate(z: Array, t: Array, told: Array | None) -> Estimate:
                if delta_h is None:
                    return model.estimate(params, z, t, told)
                # Guidance asks about copies of the rows, one set after the other.
                copies = (z.shape[0] // delta_h.shape[0], *(1,) * (delta_h.ndim - 1))
                return model.estimate(params, z, t, told, jnp.tile(delta_h, copies))

            return self.denoiser(process, estimate, label)

        asked, shape = denoiser(), model.middle_shape
        if shape is not None:
            bottleneck = Bottleneck(
                shape=shape,
                activation=lambda z, t: model.middle(params, z, t, label),
                estimate=lambda z, t, delta_h: denoiser(delta_h).estimate(z, t),
            )
            asked = dataclasses.replace(asked, bottleneck=bottleneck)
        return Denoising(
            denoiser=asked,
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
        label: Array | None,
        *,
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
            label: Class ids, ``[B]``, or None.
            default: The sampler where none is asked for.
            units: Units of the model.
            trajectory: What is kept of the way.

        Returns:
            The samples.
        """
        key, prior = prior_latents(process, key, shape)
        rows, latents = (self.sampler or default).sample(
            self.denoiser(process, estimate_fn, label),
            key,
            prior,
            num_steps=self.num_steps,
            num_frames=min(trajectory.num_frames, self.num_steps),
        )
        kept = latents[:, : trajectory.count(shape[1:])]
        return Samples(rows=units.decode(rows), trajectory=units.decode(kept))


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
