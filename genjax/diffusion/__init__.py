"""The Gaussian diffusion process: schedules, times, conversions and samplers."""

from genjax.diffusion.process import alpha, diffuse, sigma
from genjax.diffusion.sampling import ancestral_sample, ancestral_step
from genjax.diffusion.schedules import (
    FixedLinearSchedule,
    LearnedLinearSchedule,
    LearnedMonotoneSchedule,
    gamma_and_slope,
)
from genjax.diffusion.times import independent_times, stratified_times

__all__ = [
    "FixedLinearSchedule",
    "LearnedLinearSchedule",
    "LearnedMonotoneSchedule",
    "alpha",
    "ancestral_sample",
    "ancestral_step",
    "diffuse",
    "gamma_and_slope",
    "independent_times",
    "sigma",
    "stratified_times",
]
