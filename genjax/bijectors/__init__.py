"""Invertible maps with tractable log-determinants, as Linen modules."""

from genjax.bijectors.autoregressive import MaskedAutoregressive, TransformerAutoregressive
from genjax.bijectors.base import Bijector
from genjax.bijectors.containers import Chain, Invert, MultiScale, Repeat
from genjax.bijectors.continuous import ContinuousFlow
from genjax.bijectors.coupling import (
    Coupling,
    alternating_mask,
    checkerboard_mask,
    half_mask,
    hashable,
)
from genjax.bijectors.dequantization import UniformDequantizer, VariationalDequantizer
from genjax.bijectors.elementwise import (
    Elementwise,
    additive,
    affine,
    rational_quadratic_spline,
    sigmoid_affine,
)
from genjax.bijectors.flow import Flow, standard_normal_log_prob
from genjax.bijectors.linear import ActNorm, Convolution1x1, LULinear, Permutation
from genjax.bijectors.marginal import Marginal
from genjax.bijectors.recipes.images import glow, jet, real_nvp, tarflow
from genjax.bijectors.recipes.points import autoregressive_flow, continuous_flow, coupling_flow
from genjax.bijectors.shapes import Affine, Logit, Reshape, Sigmoid, Squeeze, Tanh

__all__ = [
    "ActNorm",
    "Affine",
    "Bijector",
    "Chain",
    "ContinuousFlow",
    "Convolution1x1",
    "Coupling",
    "Elementwise",
    "Flow",
    "Invert",
    "LULinear",
    "Logit",
    "Marginal",
    "MaskedAutoregressive",
    "MultiScale",
    "Permutation",
    "Repeat",
    "Reshape",
    "Sigmoid",
    "Squeeze",
    "Tanh",
    "TransformerAutoregressive",
    "UniformDequantizer",
    "VariationalDequantizer",
    "additive",
    "affine",
    "alternating_mask",
    "autoregressive_flow",
    "checkerboard_mask",
    "continuous_flow",
    "coupling_flow",
    "glow",
    "half_mask",
    "hashable",
    "jet",
    "rational_quadratic_spline",
    "real_nvp",
    "sigmoid_affine",
    "standard_normal_log_prob",
    "tarflow",
]
