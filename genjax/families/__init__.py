"""Families of generative models: records of pure functions that one training loop runs."""

from genjax.families.autoregressive import autoregressive
from genjax.families.averages import Average, HalfLife
from genjax.families.base import Acts, Density, Family, FirstStage, Samples, Suspicion, TrainState
from genjax.families.binarized import binarized
from genjax.families.chain_objective import ChainObjective
from genjax.families.choosing import Choosing
from genjax.families.classifier import classifier
from genjax.families.components import Component, GaussianComponent
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
from genjax.families.discrete_components import (
    BernoulliComponent,
    CategoricalComponent,
    MultinomialComponent,
)
from genjax.families.draws import Latent
from genjax.families.flow import flow
from genjax.families.flow_matching import flow_matching
from genjax.families.gan import (
    AdaptiveAugment,
    FixedAugment,
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
from genjax.families.hidden_markov import hidden_markov
from genjax.families.hierarchical_vae import hierarchical_vae
from genjax.families.latents import of_latents
from genjax.families.logistic_observations import DiscretizedLogistic, LogisticMixture
from genjax.families.mixture import mixture
from genjax.families.objective import Objective
from genjax.families.observations import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    Entries,
    Gaussian,
    Observation,
)
from genjax.families.quantizers import FiniteScalarQuantizer, Quantizer, VectorQuantizer
from genjax.families.sampling import Sampling, Trajectory
from genjax.families.standardized import standardized
from genjax.families.vae import vae
from genjax.families.variational_objective import VariationalObjective
from genjax.families.vdm import vdm
from genjax.families.vq_vae import vq_vae

__all__ = [
    "Bernoulli",
    "BernoulliComponent",
    "Categorical",
    "CategoricalComponent",
    "Component",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Entries",
    "Gaussian",
    "GaussianComponent",
    "LogisticMixture",
    "MultinomialComponent",
    "Observation",
    "Choosing",
    "FiniteScalarQuantizer",
    "FirstStage",
    "Quantizer",
    "VectorQuantizer",
    "of_latents",
    "vq_vae",
    "VariationalObjective",
    "autoregressive",
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
    "AdaptiveAugment",
    "FixedAugment",
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
    "hidden_markov",
    "hierarchical_vae",
    "hinge_gan",
    "lsgan",
    "mixture",
    "mmd_gan",
    "r3gan",
    "sngan",
    "standardized",
    "vdm",
    "wgan",
    "wgan_gp",
]
