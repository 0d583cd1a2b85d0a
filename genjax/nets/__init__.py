"""Networks as Linen modules. They see no loss, no optimiser and no noise schedule."""

from genjax.nets.convolution import Conv, ConvTranspose
from genjax.nets.score_mlp import ScoreMLP
from genjax.nets.score_resnet import ScoreResNet

__all__ = ["Conv", "ConvTranspose", "ScoreMLP", "ScoreResNet"]
