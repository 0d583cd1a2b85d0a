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
from genjax.families.gan.cycle_gan import cycle_gan
from genjax.families.gan.family import diagnose, gan
from genjax.families.gan.game import Game
from genjax.families.gan.pix2pix import pix2pix
from genjax.families.gan.rows import Rows
from genjax.families.gan.slope_control import PENALTIES, SlopeControl
from genjax.families.gan.srgan import srgan

__all__ = [
    "PENALTIES",
    "Game",
    "Rows",
    "SlopeControl",
    "cycle_gan",
    "diagnose",
    "fgan",
    "gan",
    "hinge_gan",
    "lsgan",
    "mmd_gan",
    "pix2pix",
    "r3gan",
    "sngan",
    "srgan",
    "wgan",
    "wgan_gp",
]
