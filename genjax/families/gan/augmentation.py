"""How strongly a game's images are augmented: as a critic overfits, or as it is told."""

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.devices import average, total
from genjax.families.base import PyTree, Step
from genjax.families.gan.augmentation_pipeline import Pipeline
from genjax.losses import AdversarialLoss


def _check_images(pipeline: str, event_shape: tuple[int, ...], pack_size: int) -> None:
    """Whether there are images that a pipeline can change."""
    if len(event_shape) != 3 or min(event_shape[:2]) < 2:
        raise ValueError(f"augment is for images (H, W, C), got data of shape {event_shape}")
    if pipeline == "bgc" and event_shape[-1] not in (1, 3):
        raise ValueError(
            f"augment: 'bgc' changes colours of 1 or 3 channels, got {event_shape[-1]}; take the "
            "pipeline 'bg'"
        )
    if pack_size > 1:
        raise ValueError("augment changes single images, which packs are not: set pack_size to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedAugment:
    """Augmentation of a strength that is told.

    Attributes:
        strength: Probability of each change.
        pipeline: Which changes there are: see
            ``genjax.families.gan.augment``.
        ramp_kimg: Thousands of examples over which the strength rises from 0, along half a cosine;
            0 for the full strength from the start. (R3GAN: 0.55 over 20,000 on CIFAR-10.)

    Raises:
        ValueError: If a number is out of range.
    """

    strength: float
    pipeline: Pipeline = "bgc"
    ramp_kimg: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be in [0, 1], got {self.strength}")
        if self.ramp_kimg < 0:
            raise ValueError(f"ramp_kimg must not be negative, got {self.ramp_kimg}")

    def check(self, loss: AdversarialLoss, event_shape: tuple[int, ...], pack_size: int) -> None:
        """Whether it fits a loss and the rows; a ValueError if not."""
        _check_images(self.pipeline, event_shape, pack_size)

    def init(self) -> dict[str, PyTree]:
        """What it keeps between steps: nothing."""
        return {}

    def current(
        self, state: Mapping[str, PyTree], step: Step, rows_per_step: float | Array
    ) -> Float[Array, ""]:
        """Strength in a step, ``[]``.

        Args:
            state: What it keeps.
            step: Number of training steps taken.
            rows_per_step: Examples in each.
        """
        if not self.ramp_kimg:
            return jnp.asarray(self.strength, jnp.float32)
        share = jnp.minimum(step * rows_per_step / (1000.0 * self.ramp_kimg), 1.0)
        return self.strength * 0.5 * (1.0 - jnp.cos(jnp.pi * share))

    def learn(
        self, state: Mapping[str, PyTree], real_outputs: Array, threshold: float | None
    ) -> tuple[Mapping[str, PyTree], dict[str, Array]]:
        """What it keeps after a batch, and metrics: nothing changes."""
        return state, {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveAugment:
    r"""Augmentation that grows while the critic overfits, and falls while it does not (ADA).

    Overfitting is told by :math:`r_t = \mathbb{E}[\mathrm{sign}\, D(x)]` of the real rows that the
    critic trains on: 0 if it is as often wrong as right, 1 if it knows them all. Every few batches
    the strength moves by one step towards the target.

    Attributes:
        pipeline: Which changes there are: see
            ``genjax.families.gan.augment``.
        target: :math:`r_t` above which the strength grows.
        speed_kimg: Thousands of real examples over which it can grow from 0 to 1: 500 from scratch,
            100 where a trained model goes on.
        update_every: Batches of the critic between moves.
        max_strength: Largest strength; None to let it grow without limit (above 1 nothing changes
            but the time that it takes to fall). The authors advise 0.8 where colours leak.

    Raises:
        ValueError: If a number is out of range.

    References:
        Karras et al., Training GANs with Limited Data, arXiv:2006.06676, section 3.
    """

    pipeline: Pipeline = "bgc"
    target: float = 0.6
    speed_kimg: float = 500.0
    update_every: int = 4
    max_strength: float | None = None

    def __post_init__(self) -> None:
        if not -1 < self.target < 1:
            raise ValueError(f"target must be in (-1, 1), got {self.target}")
        if not self.speed_kimg > 0:
            raise ValueError(f"speed_kimg must be positive, got {self.speed_kimg}")
        if self.update_every < 1:
            raise ValueError(f"update_every must be at least 1, got {self.update_every}")
        if self.max_strength is not None and not self.max_strength > 0:
            raise ValueError(f"max_strength must be positive, got {self.max_strength}")

    def check(self, loss: AdversarialLoss, event_shape: tuple[int, ...], pack_size: int) -> None:
        """Whether it fits a loss and the rows; a ValueError if not."""
        _check_images(self.pipeline, event_shape, pack_size)
        if loss.threshold is None:
            raise ValueError(
                "augment 'adaptive' reads from single outputs of the critic how well it knows real "
                "rows; with this loss only differences of outputs mean something: take augment "
                "'fixed'"
            )

    def init(self) -> dict[str, PyTree]:
        """What it keeps between steps: the strength, and the signs since its last move."""
        zero = jnp.zeros(())
        return {"strength": zero, "signs": jnp.copy(zero), "batches": jnp.zeros((), jnp.int32)}

    def current(
        self, state: Mapping[str, PyTree], step: Step, rows_per_step: float | Array
    ) -> Float[Array, ""]:
        """Strength in a step, ``[]``: see :meth:`FixedAugment.current`."""
        return jnp.asarray(state["strength"])

    def learn(
        self, state: Mapping[str, PyTree], real_outputs: Array, threshold: float | None
    ) -> tuple[Mapping[str, PyTree], dict[str, Array]]:
        """What it keeps after a batch of the critic, the same on all devices, and metrics.

        Args:
            state: What it kept before.
            real_outputs: The critic's outputs on augmented real rows, ``[B, *places]``.
            threshold: Output above which a row is called real.

        Returns:
            What it keeps, and :math:`r_t` of the batch as ``real_sign``.
        """
        outputs = jax.lax.stop_gradient(real_outputs) - (0.0 if threshold is None else threshold)
        sign = average(jnp.mean(jnp.sign(outputs)))
        signs, batches = state["signs"] + sign, state["batches"] + 1
        due = batches >= self.update_every
        rows = total(jnp.asarray(outputs.shape[0], jnp.float32)) * self.update_every
        step = jnp.sign(signs / batches - self.target) * rows / (1000.0 * self.speed_kimg)
        moved = jnp.clip(state["strength"] + step, 0.0, self.max_strength)
        kept = {
            "strength": jnp.where(due, moved, state["strength"]),
            "signs": jnp.where(due, 0.0, signs),
            "batches": jnp.where(due, 0, batches),
        }
        return kept, {"real_sign": sign}


Augment: TypeAlias = FixedAugment | AdaptiveAugment
"""How strongly a game's images are augmented."""
