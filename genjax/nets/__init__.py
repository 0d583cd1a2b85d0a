"""Networks as Linen modules. They see no loss, no optimiser and no noise schedule."""

from genjax.nets.autoencoder import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    MLPLayers,
)
from genjax.nets.classifier import ConvClassifier
from genjax.nets.convolution import Conv, ConvTranspose
from genjax.nets.dcgan import DCGANCritic, DCGANGenerator
from genjax.nets.dit import DiT
from genjax.nets.frozen import Frozen
from genjax.nets.gan_mlp import MLPCritic, MLPGenerator
from genjax.nets.gan_resnet import ResNetCritic, ResNetGenerator
from genjax.nets.inception import InceptionV3, inception_variables
from genjax.nets.score_mlp import ScoreMLP
from genjax.nets.score_resnet import ScoreResNet
from genjax.nets.top_down import BottomUpEncoder, TopDownDecoder
from genjax.nets.unet import UNet
from genjax.nets.unet_classifier import UNetClassifier

__all__ = [
    "BottomUpEncoder",
    "Conv",
    "ConvClassifier",
    "ConvDecoder",
    "ConvEncoder",
    "ConvTranspose",
    "DCGANCritic",
    "DCGANGenerator",
    "DiT",
    "Frozen",
    "InceptionV3",
    "MLPCritic",
    "MLPDecoder",
    "MLPEncoder",
    "MLPGenerator",
    "MLPLayers",
    "ResNetCritic",
    "ResNetGenerator",
    "ScoreMLP",
    "ScoreResNet",
    "TopDownDecoder",
    "UNet",
    "UNetClassifier",
    "inception_variables",
]
