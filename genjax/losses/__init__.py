"""Losses as pure functions of arrays: per example, unweighted, likelihoods in nats.

They need jax and nothing else, see no network and draw no random numbers.
"""

from genjax.losses.adversarial import (
    ADVERSARIAL_LOSSES,
    AdversarialLoss,
    brier_critic_loss,
    brier_generator_loss,
    correct_at,
    hinge_critic_loss,
    hinge_generator_loss,
    least_squares_critic_loss,
    least_squares_generator_loss,
    least_squares_loss,
    logistic_critic_loss,
    minimax_generator_loss,
    nonsaturating_generator_loss,
    relativistic_critic_loss,
    relativistic_generator_loss,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
)
from genjax.losses.density_ratio import log_density_ratio
from genjax.losses.diffusion import denoising_loss, gaussian_prior_loss
from genjax.losses.f_divergence import (
    F_DIVERGENCES,
    CriticForm,
    FDivergence,
    f_divergence_bound,
    f_divergence_log_ratio,
    f_gan_loss,
)
from genjax.losses.flow_matching import flow_matching_loss, straight_path
from genjax.losses.likelihood import importance_weighted_nats, nats_to_bits_per_dim
from genjax.losses.lipschitz import (
    clip_weights,
    dragan_penalty,
    gradient_penalty,
    r1_penalty,
    r2_penalty,
)
from genjax.losses.mmd import (
    mmd_gan_loss,
    mmd_squared,
    mmd_witness,
    rational_quadratic_kernel,
    rbf_kernel,
)
from genjax.losses.vdm import (
    decoder_logits,
    diffusion_loss,
    discrete_diffusion_loss,
    gaussian_decoder_loss,
    gaussian_reconstruction_loss,
    grey_levels,
    prior_loss,
    reconstruction_loss,
)

__all__ = [
    "denoising_loss",
    "flow_matching_loss",
    "gaussian_prior_loss",
    "importance_weighted_nats",
    "straight_path",
    "ADVERSARIAL_LOSSES",
    "F_DIVERGENCES",
    "AdversarialLoss",
    "CriticForm",
    "FDivergence",
    "brier_critic_loss",
    "brier_generator_loss",
    "clip_weights",
    "correct_at",
    "decoder_logits",
    "diffusion_loss",
    "discrete_diffusion_loss",
    "dragan_penalty",
    "f_divergence_bound",
    "f_divergence_log_ratio",
    "f_gan_loss",
    "gaussian_decoder_loss",
    "gaussian_reconstruction_loss",
    "gradient_penalty",
    "grey_levels",
    "hinge_critic_loss",
    "hinge_generator_loss",
    "least_squares_critic_loss",
    "least_squares_generator_loss",
    "least_squares_loss",
    "log_density_ratio",
    "logistic_critic_loss",
    "minimax_generator_loss",
    "mmd_gan_loss",
    "mmd_squared",
    "mmd_witness",
    "nats_to_bits_per_dim",
    "nonsaturating_generator_loss",
    "prior_loss",
    "r1_penalty",
    "r2_penalty",
    "rational_quadratic_kernel",
    "rbf_kernel",
    "reconstruction_loss",
    "relativistic_critic_loss",
    "relativistic_generator_loss",
    "wasserstein_critic_loss",
    "wasserstein_generator_loss",
]
