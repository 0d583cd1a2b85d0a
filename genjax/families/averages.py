"""Moving averages of parameters whose memory grows with training."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from genjax.families.base import Step


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfLife:
    """A moving average of parameters that is counted in examples.

    Attributes:
        ema_half_life_kimg: Half-life, in thousands of examples; 0 for the current parameters.
        ema_rampup: The half-life is at most this share of the examples counted so far; 0 for no
            limit.

    References:
        Karras et al., arXiv:1912.04958, and NVlabs/stylegan3's training loop.
    """

    ema_half_life_kimg: float = 10.0
    ema_rampup: float = 0.05

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")

    def decay(self, step: Step, batch_size: int) -> Array:
        """Decay of the average in the step that leads to ``step``, ``[]``."""
        thousands = batch_size * 1e-3
        half_life = jnp.asarray(self.ema_half_life_kimg, jnp.float32)
        if self.ema_rampup:
            half_life = jnp.minimum(half_life, self.ema_rampup * (step * thousands))
        # 0.5 to the number of half-lives that a step takes.
        return jnp.where(half_life > 0, 0.5 ** (thousands / half_life), 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Average:
    r"""A moving average with a decay of its own, by half-life or by a power of the steps.

    Attributes:
        ema_decay: Decay for each optimiser step, in [0, 1), where neither of the next two is set.
        ema_half_life_kimg: Half-life, in thousands of examples, as of :class:`HalfLife`.
        ema_rampup: The half-life is at most this share of the examples counted so far; 0 for no
            limit.
        ema_relative_std: Standard deviation of the average's weights over the steps, as a share of
            training so far, in (0, 0.28]: the decay of step t is :math:`(1 - 1/t)^{\kappa + 1}`.

    References:
        Karras et al., arXiv:2206.00364, appendix F.1, for the half-life with ramp-up; Karras et
        al., arXiv:2312.02696, eq. 1 and 2 and appendix C.1, for powers.
    """

    ema_decay: float = 0.999
    ema_half_life_kimg: float | None = None
    ema_rampup: float = 0.05
    ema_relative_std: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.ema_half_life_kimg is not None and self.ema_relative_std is not None:
            raise ValueError("ema_half_life_kimg and ema_relative_std exclude each other: set one")
        if self.ema_half_life_kimg is not None:
            HalfLife(ema_half_life_kimg=self.ema_half_life_kimg, ema_rampup=self.ema_rampup)
        if self.ema_relative_std is not None:
            power_of(self.ema_relative_std)

    def decay(self, step: Step, batch_size: int) -> Array:
        """Decay of the average in the step that leads to ``step``, ``[]``."""
        if self.ema_half_life_kimg is not None:
            by_half = HalfLife(
                ema_half_life_kimg=self.ema_half_life_kimg, ema_rampup=self.ema_rampup
            )
            return by_half.decay(step, batch_size)
        if self.ema_relative_std is not None:
            return (1.0 - 1.0 / step) ** (power_of(self.ema_relative_std) + 1.0)
        return jnp.asarray(self.ema_decay, jnp.float32)


def power_of(relative_std: float) -> float:
    r"""The power :math:`\kappa` of weights :math:`t^\kappa` with a relative standard deviation.

    Args:
        relative_std: Standard deviation of the weights' times as a share of the last, in
            (0, 0.28]; that of equal weights is 0.289.

    Returns:
        The power, positive.

    Raises:
        ValueError: If it is out of range.

    Example:
        >>> round(power_of(0.1), 3)
        6.937

    References:
        Karras et al., arXiv:2312.02696, eq. 127.
    """
    if not 0.0 < relative_std <= 0.28:
        raise ValueError(f"ema_relative_std must be in (0, 0.28], got {relative_std}")
    inverse = relative_std**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(roots.real.max())
