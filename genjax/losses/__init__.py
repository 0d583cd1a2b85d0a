"""Losses as pure functions of arrays: per example, in nats, unweighted.

They need jax and nothing else, see no network and draw no random numbers.
"""

from genjax.losses.likelihood import nats_to_bits_per_dim
from genjax.losses.vdm import (
    decoder_logits,
    diffusion_loss,
    discrete_diffusion_loss,
    gaussian_reconstruction_loss,
    grey_levels,
    prior_loss,
    reconstruction_loss,
)

__all__ = [
    "decoder_logits",
    "diffusion_loss",
    "discrete_diffusion_loss",
    "gaussian_reconstruction_loss",
    "grey_levels",
    "nats_to_bits_per_dim",
    "prior_loss",
    "reconstruction_loss",
]
