"""Samplers as values: each asks any denoiser at some times and goes from noise to data."""

from genjax.diffusion.samplers.base import (
    Bottleneck,
    Denoiser,
    Sampler,
    Threshold,
    prior_latents,
)
from genjax.diffusion.samplers.chain import ChainSampler
from genjax.diffusion.samplers.corrector import PredictorCorrector
from genjax.diffusion.samplers.equation import AdaptiveODE
from genjax.diffusion.samplers.first_order import DDIM, Ancestral
from genjax.diffusion.samplers.heun import Euler, Heun
from genjax.diffusion.samplers.linear import LinearSampler, Table
from genjax.diffusion.samplers.multistep import DPMSolver, UniPC

__all__ = [
    "DDIM",
    "AdaptiveODE",
    "Ancestral",
    "Bottleneck",
    "ChainSampler",
    "DPMSolver",
    "Denoiser",
    "Euler",
    "Heun",
    "LinearSampler",
    "PredictorCorrector",
    "Sampler",
    "Table",
    "Threshold",
    "UniPC",
    "prior_latents",
]
