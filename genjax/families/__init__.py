"""Families of generative models: records of pure functions that one training loop runs."""

from genjax.families.averages import Average, HalfLife
from genjax.families.base import Acts, Density, Family, Samples, Suspicion, TrainState
from genjax.families.binarized import binarized
from genjax.families.chain_objective import ChainObjective
from genjax.families.classifier import classifier
from genjax.families.ddpm import ddpm
from genjax.families.denoising import Likelihood, denoising_family
from genjax.families.diffusion import (
    EDMObjective,
    RectifiedFlowObjective,
    ScoreObjective,
    diffusion,
    edm,
    rectified_flow,
    score_sde,
)
from genjax.families.draws import Latent
from genjax.families.flow import flow
from genjax.families.flow_matching import flow_matching
from genjax.families.gan import (
    Rows,
    SlopeControl,
    fgan,
    gan,
    hinge_gan,
    lsgan,
    mmd_gan,
    r3gan,
    sngan,
    wgan,
    wgan_gp,
)
from genjax.families.hierarchical_vae import hierarchical_vae
from genjax.families.logistic_observations import DiscretizedLogistic, LogisticMixture
from genjax.families.objective import Objective
from genjax.families.observations import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Entries,
    Gaussian,
    Observation,
)
from genjax.families.sampling import Sampling, Trajectory
from genjax.families.standardized import standardized
from genjax.families.vae import vae
from genjax.families.variational_objective import VariationalObjective
from genjax.families.vdm import vdm

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Entries",
    "Gaussian",
    "LogisticMixture",
    "Observation",
    "VariationalObjective",
    "vae",
    "Average",
    "ChainObjective",
    "EDMObjective",
    "RectifiedFlowObjective",
    "ScoreObjective",
    "Likelihood",
    "Objective",
    "Sampling",
    "Trajectory",
    "ddpm",
    "diffusion",
    "denoising_family",
    "edm",
    "rectified_flow",
    "score_sde",
    "Acts",
    "binarized",
    "Density",
    "Family",
    "HalfLife",
    "Latent",
    "Rows",
    "Samples",
    "SlopeControl",
    "Suspicion",
    "TrainState",
    "classifier",
    "fgan",
    "flow",
    "flow_matching",
    "gan",
    "hierarchical_vae",
    "hinge_gan",
    "lsgan",
    "mmd_gan",
    "r3gan",
    "sngan",
    "standardized",
    "vdm",
    "wgan",
    "wgan_gp",
]
