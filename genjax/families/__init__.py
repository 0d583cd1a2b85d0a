"""Families of generative models: records of pure functions that one training loop runs."""

from genjax.families.base import Family, TrainState
from genjax.families.classifier import classifier
from genjax.families.flow import flow
from genjax.families.flow_matching import flow_matching
from genjax.families.gan import (
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
from genjax.families.vdm import vdm

__all__ = [
    "Family",
    "TrainState",
    "classifier",
    "fgan",
    "flow",
    "flow_matching",
    "gan",
    "hinge_gan",
    "lsgan",
    "mmd_gan",
    "r3gan",
    "sngan",
    "vdm",
    "wgan",
    "wgan_gp",
]
