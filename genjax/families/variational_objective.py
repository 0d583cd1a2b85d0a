"""What variational autoencoders are trained on: a bound, its gradient, and weights."""

import dataclasses
from typing import Literal, get_args

from genjax.losses.variational import GradientEstimator


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariationalObjective:
    """What a variational autoencoder is trained on: keys of its family.

    Attributes:
        bound: ``"elbo"``, of which several draws are averaged, or ``"importance"``, the tighter
            bound that several draws give together.
        num_draws: Draws of the latent for each example in training.
        gradient: Estimator of the encoder's gradient for the importance-weighted bound: see
            :func:`genjax.losses.importance_weighted_loss`.
        kl: ``"analytic"`` or ``"sampled"`` divergence in the ELBO.
        beta: Weight of the divergence in the ELBO; with another than 1 the loss is no bound.
        warmup_steps: Steps over which that weight is raised from 0.
        free_bits: Nats that the divergence of each entry, or group, of the latents has for free.
        free_bits_of: Whether they are those of each ``"entry"``, or of each ``"group"``: a layer,
            or a block of a decoder.
        capacity: Nats that the divergence is held at, or None.
        capacity_steps: Steps over which the capacity is raised from 0.
        capacity_weight: Weight of the distance from the capacity.

    References:
        Burda et al., arXiv:1509.00519; Higgins et al., beta-VAE, 2017; Kingma et al.,
        arXiv:1606.04934, eq. 15; Burgess et al., arXiv:1804.03599, eq. 8.
    """

    bound: Literal["elbo", "importance"] = "elbo"
    num_draws: int = 1
    gradient: GradientEstimator = "plain"
    kl: Literal["analytic", "sampled"] = "analytic"
    beta: float = 1.0
    warmup_steps: int = 0
    free_bits: float = 0.0
    free_bits_of: Literal["entry", "group"] = "entry"
    capacity: float | None = None
    capacity_steps: int = 0
    capacity_weight: float = 1000.0

    def __post_init__(self) -> None:
        if self.bound not in ("elbo", "importance"):
            raise ValueError(f"bound must be 'elbo' or 'importance', got {self.bound!r}")
        if self.kl not in ("analytic", "sampled"):
            raise ValueError(f"kl must be 'analytic' or 'sampled', got {self.kl!r}")
        if self.free_bits_of not in ("entry", "group"):
            raise ValueError(f"free_bits_of must be 'entry' or 'group', got {self.free_bits_of!r}")
        if self.gradient not in get_args(GradientEstimator):
            raise ValueError(
                f"gradient must be one of {get_args(GradientEstimator)}, got {self.gradient!r}"
            )
        if self.num_draws < 1:
            raise ValueError(f"num_draws must be at least 1, got {self.num_draws}")
        least = min(self.beta, self.warmup_steps, self.free_bits, self.capacity_steps)
        if min(least, self.capacity_weight, self.capacity or 0.0) < 0:
            raise ValueError(f"weights, steps and nats must be at least 0, got {self}")
        weighted = (self.beta, self.warmup_steps, self.free_bits, self.capacity) != (
            1.0,
            0,
            0,
            None,
        )
        if self.bound == "importance" and weighted:
            raise ValueError(
                "beta, warmup_steps, free_bits and capacity weigh the divergence of bound='elbo'; "
                "the importance-weighted bound has none of its own"
            )
        if self.bound == "elbo" and self.gradient != "plain":
            raise ValueError(
                f"gradient={self.gradient!r} is of bound='importance', which with num_draws=1 is "
                "the ELBO with a sampled divergence"
            )
        if self.capacity is not None and (self.free_bits or self.beta != 1.0):
            raise ValueError("a capacity takes the place of beta and free_bits: give one of them")
