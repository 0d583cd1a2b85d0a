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
from genjax.families.gan.bigan import ali, bigan, veegan
from genjax.families.gan.cycle_gan import cycle_gan
from genjax.families.gan.family import diagnose, gan
from genjax.families.gan.game import Game
from genjax.families.gan.inference import Inference
from genjax.families.gan.kl_autoencoder import kl_autoencoder
from genjax.families.gan.latent_regression import latent_regression
from genjax.families.gan.path_length import PathLength
from genjax.families.gan.pix2pix import pix2pix
from genjax.families.gan.reconstruction_game import Judges
from genjax.families.gan.rows import Rows
from genjax.families.gan.semi_supervised import semi_supervised_gan
from genjax.families.gan.slope_control import PENALTIES, SlopeControl
from genjax.families.gan.srgan import srgan
from genjax.families.gan.stylegan2 import stylegan2
from genjax.families.gan.vq_gan import vq_gan

__all__ = [
    "PENALTIES",
    "AdaptiveAugment",
    "Augment",
    "FixedAugment",
    "Game",
    "Inference",
    "Judges",
    "PathLength",
    "Rows",
    "SlopeControl",
    "cycle_gan",
    "ali",
    "bigan",
    "augment",
    "diagnose",
    "fgan",
    "gan",
    "hinge_gan",
    "kl_autoencoder",
    "latent_regression",
    "lsgan",
    "mmd_gan",
    "pix2pix",
    "r3gan",
    "semi_supervised_gan",
    "sngan",
    "srgan",
    "veegan",
    "vq_gan",
    "stylegan2",
    "wgan",
    "wgan_gp",
]
