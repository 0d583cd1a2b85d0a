"""Networks as Linen modules. They see no loss, no optimiser and no noise schedule."""

from genjax.nets.autoencoder import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    MLPLayers,
)
from genjax.nets.causal_transformer import AutoregressiveTransformer, PromptedTransformer
from genjax.nets.classifier import ConvClassifier, LinearClassifier, NoisyMLPClassifier
from genjax.nets.convolution import Conv, ConvTranspose
from genjax.nets.dcgan import DCGANCritic, DCGANGenerator
from genjax.nets.dit import DiT
from genjax.nets.efficient_unet import EfficientUNet
from genjax.nets.frozen import Frozen
from genjax.nets.gan_mlp import MLPCritic, MLPGenerator
from genjax.nets.gan_resnet import ResNetCritic, ResNetGenerator
from genjax.nets.grid_autoencoder import GridDecoder, GridEncoder
from genjax.nets.image_conditioned import ImageConditioned, NoiseAugmentation, noised_image
from genjax.nets.inception import InceptionV3, inception_variables
from genjax.nets.joint import (
    JointConvCritic,
    JointConvEncoder,
    JointMLPCritic,
    JointMLPEncoder,
)
from genjax.nets.made import MADE, MaskedMLP
from genjax.nets.minibatch import MinibatchDiscrimination
from genjax.nets.noise import GaussianNoise
from genjax.nets.pixelcnn import GatedPixelCNN, PixelCNN
from genjax.nets.pixelcnn_plus import PixelCNNPlus
from genjax.nets.plain_classifier import DomainMLP, PlainConvClassifier
from genjax.nets.prior_transformer import PriorTransformer
from genjax.nets.prompted import EmbeddingContext, Prompted
from genjax.nets.r3gan import R3GANCritic, R3GANGenerator
from genjax.nets.residual_autoencoder import ResidualDecoder, ResidualEncoder
from genjax.nets.score_mlp import ScoreMLP
from genjax.nets.score_resnet import ScoreResNet
from genjax.nets.stylegan import StyleGANGenerator
from genjax.nets.stylegan2 import StyleGAN2Generator
from genjax.nets.stylegan2_critic import StyleGAN2Critic
from genjax.nets.super_resolution import RRDBNet, SRResNet, depth_to_space, icnr
from genjax.nets.text_encoder import TextEncoder
from genjax.nets.top_down import BottomUpEncoder, TopDownDecoder
from genjax.nets.towers import ImageTower, TextTower
from genjax.nets.transformer import Cache
from genjax.nets.translation import PatchCritic, ResNetTranslator, UNetTranslator
from genjax.nets.unet import UNet
from genjax.nets.unet_classifier import UNetClassifier
from genjax.nets.weight_norm import WeightNormConv, WeightNormDense

__all__ = [
    "EfficientUNet",
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
    "DomainMLP",
    "EmbeddingContext",
    "Frozen",
    "GatedPixelCNN",
    "GaussianNoise",
    "GridDecoder",
    "GridEncoder",
    "ImageTower",
    "InceptionV3",
    "JointConvCritic",
    "JointConvEncoder",
    "JointMLPCritic",
    "JointMLPEncoder",
    "MADE",
    "LinearClassifier",
    "MLPCritic",
    "MLPDecoder",
    "MLPEncoder",
    "MLPGenerator",
    "MaskedMLP",
    "MinibatchDiscrimination",
    "NoisyMLPClassifier",
    "PixelCNN",
    "PixelCNNPlus",
    "PlainConvClassifier",
    "MLPLayers",
    "PriorTransformer",
    "PromptedTransformer",
    "Prompted",
    "R3GANCritic",
    "R3GANGenerator",
    "ResidualDecoder",
    "ResidualEncoder",
    "ResNetCritic",
    "PatchCritic",
    "ResNetGenerator",
    "ResNetTranslator",
    "RRDBNet",
    "SRResNet",
    "ScoreMLP",
    "ScoreResNet",
    "StyleGAN2Critic",
    "StyleGAN2Generator",
    "StyleGANGenerator",
    "TextEncoder",
    "TextTower",
    "TopDownDecoder",
    "UNet",
    "UNetClassifier",
    "UNetTranslator",
    "depth_to_space",
    "icnr",
    "WeightNormConv",
    "WeightNormDense",
    "inception_variables",
    "ImageConditioned",
    "NoiseAugmentation",
    "noised_image",
]
