"""Families of generative models: records of pure functions that one training loop runs."""

from genjax.families.adaptation import cdan, dann
from genjax.families.adversaries import FGSM, PGD, Adversary
from genjax.families.autoregressive import autoregressive
from genjax.families.averages import Average, HalfLife
from genjax.families.base import Acts, Density, Family, FirstStage, Samples, Suspicion, TrainState
from genjax.families.binarized import binarized
from genjax.families.chain_objective import ChainObjective
from genjax.families.choosing import Choosing
from genjax.families.classifier import classifier
from genjax.families.components import Component
from genjax.families.contrastive import clip, contrastive, image_embedding, siglip, text_embedding
from genjax.families.ddpm import ddpm
from genjax.families.denoising import denoising_family
from genjax.families.denoising_answers import Likelihood
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
)
from genjax.families.draws import Latent
from genjax.families.embedded import Embeddings, with_embeddings
from genjax.families.embedding_forms import (
    EmbeddingForm,
    PrincipalCodes,
    Scaled,
    Standardized,
)
from genjax.families.flow import flow
from genjax.families.flow_matching import flow_matching
from genjax.families.gan import (
    AdaptiveAugment,
    FixedAugment,
    Inference,
    Judges,
    PathLength,
    Rows,
    SlopeControl,
    ali,
    bigan,
    cycle_gan,
    fgan,
    gan,
    hinge_gan,
    kl_autoencoder,
    latent_regression,
    lsgan,
    mmd_gan,
    pix2pix,
    r3gan,
    semi_supervised_gan,
    sngan,
    srgan,
    stylegan2,
    veegan,
    vq_gan,
    wgan,
    wgan_gp,
)
from genjax.families.gaussian_component import GaussianComponent
from genjax.families.hidden_markov import hidden_markov
from genjax.families.hierarchical_vae import hierarchical_vae
from genjax.families.laplace_observation import Laplace
from genjax.families.latents import of_latents
from genjax.families.logistic_observations import DiscretizedLogistic, LogisticMixture
from genjax.families.mixture import mixture
from genjax.families.multinomial_component import MultinomialComponent
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
from genjax.families.super_resolution import super_resolution
from genjax.families.vae import vae
from genjax.families.variational_objective import VariationalObjective
from genjax.families.vdm import vdm
from genjax.families.vq_vae import vq_vae

__all__ = [
    "FGSM",
    "PGD",
    "Adversary",
    "cdan",
    "dann",
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
    "Laplace",
    "LogisticMixture",
    "MultinomialComponent",
    "Observation",
    "Choosing",
    "FiniteScalarQuantizer",
    "FirstStage",
    "Quantizer",
    "VectorQuantizer",
    "of_latents",
    "kl_autoencoder",
    "vq_gan",
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
    "EmbeddingForm",
    "Embeddings",
    "PrincipalCodes",
    "Scaled",
    "Standardized",
    "with_embeddings",
    "Acts",
    "AdaptiveAugment",
    "FixedAugment",
    "binarized",
    "Density",
    "Family",
    "HalfLife",
    "Inference",
    "Judges",
    "Latent",
    "PathLength",
    "Rows",
    "Samples",
    "SlopeControl",
    "Suspicion",
    "TrainState",
    "ali",
    "bigan",
    "classifier",
    "clip",
    "contrastive",
    "cycle_gan",
    "fgan",
    "flow",
    "flow_matching",
    "gan",
    "hidden_markov",
    "hierarchical_vae",
    "hinge_gan",
    "image_embedding",
    "latent_regression",
    "lsgan",
    "mixture",
    "mmd_gan",
    "pix2pix",
    "r3gan",
    "semi_supervised_gan",
    "siglip",
    "sngan",
    "srgan",
    "stylegan2",
    "standardized",
    "super_resolution",
    "text_embedding",
    "vdm",
    "veegan",
    "wgan",
    "wgan_gp",
]
