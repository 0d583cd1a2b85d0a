"""How the slope of a critic is controlled: penalties on its gradient, and clipped weights."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from genjax import losses
from genjax.families.base import Params, PyTree

PENALTIES = ("gradient_penalty", "dragan", "r1", "r2")
_TO_A_NORM = ("gradient_penalty", "dragan")
_SPECTRAL, _BATCH = "spectral_stats", "batch_stats"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlopeControl:
    """Penalties and limits on a critic.

    Attributes:
        penalties: Weights of ``gradient_penalty``, ``dragan``, ``r1`` and ``r2``, each the mean of
            the function in :mod:`genjax.losses.lipschitz` (R1 and R2 have the half inside); None
            for no penalties.
        penalty_every: Steps of the critic between penalties. Above 1 they are minimised in steps of
            their own, times ``penalty_every``, and the critic's optimiser is corrected for it
            (:func:`~genjax.training.optimizers.adam`).
        penalty_target: Norm that ``gradient_penalty`` and ``dragan`` pull to.
        penalty_one_sided: Whether these two leave smaller norms alone.
        clip_limit: Largest absolute value of the critic's parameters, enforced before each of its
            steps; None for no clipping.
    """

    penalties: Mapping[str, float] | None = None
    penalty_every: int = 1
    penalty_target: float = 1.0
    penalty_one_sided: bool = False
    clip_limit: float | None = None

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the penalties there are."""
        return dict(self.penalties or {})

    @property
    def lazy(self) -> bool:
        """Whether penalties are minimised in steps of their own."""
        return bool(self.weights) and self.penalty_every > 1

    def check(self, critic_state: PyTree) -> None:
        """Whether the arguments fit each other and a critic.

        Args:
            critic_state: What the critic carries besides parameters, or its shapes.

        Raises:
            ValueError: If they do not.
        """
        weights = self.weights
        if self.penalty_every < 1:
            raise ValueError(f"penalty_every must be at least 1, got {self.penalty_every}")
        for name, weight in weights.items():
            if name not in PENALTIES:
                raise ValueError(f"penalties must be among {', '.join(PENALTIES)}, got {name!r}")
            if not weight > 0:
                raise ValueError(f"the weight of {name} must be positive, got {weight}")
        if self.penalty_every > 1 and not weights:
            raise ValueError(f"penalty_every is {self.penalty_every}, but there are no penalties")
        if (self.penalty_target != 1.0 or self.penalty_one_sided) and not (
            set(_TO_A_NORM) & set(weights)
        ):
            raise ValueError(
                "penalty_target and penalty_one_sided belong to gradient_penalty and dragan, and "
                "there is neither"
            )
        if _BATCH in critic_state and weights:
            raise ValueError(
                f"the critic has batch normalisation, under which {', '.join(weights)} does not "
                "see the slope of single rows; set the critic's norm to 'layer' or 'none'"
            )
        if _SPECTRAL in critic_state and self.clip_limit is not None:
            raise ValueError(
                "clip_limit does not fit a spectrally normalised critic, whose weights are divided "
                "by their norm; drop one of the two"
            )
        if self.clip_limit is not None and not self.clip_limit > 0:
            raise ValueError(f"clip_limit must be positive, got {self.clip_limit}")

    def penalty(
        self,
        critic_fn: Callable[[Array], Array],
        real: Array,
        fake: Array,
        key: PRNGKeyArray,
    ) -> Array:
        """The weighted sum of the penalties' means.

        Args:
            critic_fn: Critic of its input alone, ``[B, *event] -> [B]``.
            real: Rows of the data, ``[B, *event]``.
            fake: Generated rows, ``[B, *event]``.
            key: Key of mixing weights and of neighbours.

        Returns:
            The sum, ``[]``.
        """
        total, weights = jnp.zeros(()), self.weights
        options: Any = dict(target_norm=self.penalty_target, one_sided=self.penalty_one_sided)
        # Each has its key whether or not the others are there: adding one changes no other's draw.
        key_mix, key_near = jax.random.split(key)
        if "gradient_penalty" in weights:
            mix = jax.random.uniform(key_mix, (real.shape[0],))
            values = losses.gradient_penalty(critic_fn, real, fake, mix, **options)
            total += weights["gradient_penalty"] * jnp.mean(values)
        if "dragan" in weights:
            uniform = jax.random.uniform(key_near, real.shape)
            values = losses.dragan_penalty(critic_fn, real, uniform, **options)
            total += weights["dragan"] * jnp.mean(values)
        if "r1" in weights:
            total += weights["r1"] * jnp.mean(losses.r1_penalty(critic_fn, real))
        if "r2" in weights:
            total += weights["r2"] * jnp.mean(losses.r2_penalty(critic_fn, fake))
        return total

    @property
    def project(self) -> Callable[[Params], Params] | None:
        """What clips the critic's parameters, if anything does."""
        limit = self.clip_limit
        if limit is None:
            return None
        return lambda own: cast(Params, losses.clip_weights(own, limit))
