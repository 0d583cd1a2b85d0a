"""Generative adversarial networks."""

from genjax.families.gan.aliases import (
    fgan,
    hinge_gan,
    lsgan,
    mmd_gan,
    r3gan,
    sngan,
    wgan,
    wgan_gp,
)
from genjax.families.gan.augmentation import AdaptiveAugment, Augment, FixedAugment
from genjax.families.gan.augmentation_pipeline import augment
from genjax.families.gan.family import diagnose, gan
from genjax.families.gan.game import Game
from genjax.families.gan.rows import Rows
from genjax.families.gan.slope_control import PENALTIES, SlopeControl

__all__ = [
    "PENALTIES",
    "AdaptiveAugment",
    "Augment",
    "FixedAugment",
    "Game",
    "Rows",
    "SlopeControl",
    "augment",
    "diagnose",
    "fgan",
    "gan",
    "hinge_gan",
    "lsgan",
    "mmd_gan",
    "r3gan",
    "sngan",
    "wgan",
    "wgan_gp",
]
