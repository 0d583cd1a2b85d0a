"""Networks as Linen modules. They see no loss, no optimiser and no noise schedule."""

from genjax.nets.autoencoder import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    MLPLayers,
)
from genjax.nets.causal_transformer import AutoregressiveTransformer
from genjax.nets.classifier import ConvClassifier, LinearClassifier
from genjax.nets.convolution import Conv, ConvTranspose
from genjax.nets.dcgan import DCGANCritic, DCGANGenerator
from genjax.nets.dit import DiT
from genjax.nets.frozen import Frozen
from genjax.nets.gan_mlp import MLPCritic, MLPGenerator
from genjax.nets.gan_resnet import ResNetCritic, ResNetGenerator
from genjax.nets.grid_autoencoder import GridDecoder, GridEncoder
from genjax.nets.inception import InceptionV3, inception_variables
from genjax.nets.made import MADE, MaskedMLP
from genjax.nets.pixelcnn import GatedPixelCNN, PixelCNN
from genjax.nets.pixelcnn_plus import PixelCNNPlus
from genjax.nets.r3gan import R3GANCritic, R3GANGenerator
from genjax.nets.score_mlp import ScoreMLP
from genjax.nets.score_resnet import ScoreResNet
from genjax.nets.top_down import BottomUpEncoder, TopDownDecoder
from genjax.nets.transformer import Cache
from genjax.nets.unet import UNet
from genjax.nets.unet_classifier import UNetClassifier

__all__ = [
    "AutoregressiveTransformer",
    "BottomUpEncoder",
    "Cache",
    "Conv",
    "ConvClassifier",
    "ConvDecoder",
    "ConvEncoder",
    "ConvTranspose",
    "DCGANCritic",
    "DCGANGenerator",
    "DiT",
    "Frozen",
    "GatedPixelCNN",
    "GridDecoder",
    "GridEncoder",
    "InceptionV3",
    "MADE",
    "LinearClassifier",
    "MLPCritic",
    "MLPDecoder",
    "MLPEncoder",
    "MLPGenerator",
    "MaskedMLP",
    "PixelCNN",
    "PixelCNNPlus",
    "MLPLayers",
    "R3GANCritic",
    "R3GANGenerator",
    "ResNetCritic",
    "ResNetGenerator",
    "ScoreMLP",
    "ScoreResNet",
    "TopDownDecoder",
    "UNet",
    "UNetClassifier",
    "inception_variables",
]
