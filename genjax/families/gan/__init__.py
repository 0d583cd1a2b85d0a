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
from genjax.families.gan.family import diagnose, gan
from genjax.families.gan.game import Game
from genjax.families.gan.path_length import PathLength
from genjax.families.gan.rows import Rows
from genjax.families.gan.slope_control import PENALTIES, SlopeControl
from genjax.families.gan.stylegan2 import stylegan2

__all__ = [
    "PENALTIES",
    "Game",
    "PathLength",
    "Rows",
    "SlopeControl",
    "diagnose",
    "fgan",
    "gan",
    "hinge_gan",
    "lsgan",
    "mmd_gan",
    "r3gan",
    "sngan",
    "stylegan2",
    "wgan",
    "wgan_gp",
]
