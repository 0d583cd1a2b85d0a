"""Invertible maps with tractable log-determinants, as Linen modules."""

from genjax.bijectors.autoregressive import MADE, MaskedAutoregressive
from genjax.bijectors.base import Bijector
from genjax.bijectors.containers import Chain, Invert
from genjax.bijectors.coupling import (
    Coupling,
    alternating_mask,
    checkerboard_mask,
    half_mask,
    hashable,
)
from genjax.bijectors.elementwise import (
    Elementwise,
    additive,
    affine,
    rational_quadratic_spline,
)
from genjax.bijectors.flow import Flow
from genjax.bijectors.linear import ActNorm, LULinear, Permutation
from genjax.bijectors.recipes import ResidualMLP, autoregressive_flow, coupling_flow
from genjax.bijectors.shapes import Logit, Sigmoid, Squeeze, Tanh

__all__ = [
    "MADE",
    "ActNorm",
    "Bijector",
    "Chain",
    "Coupling",
    "Elementwise",
    "Flow",
    "Invert",
    "LULinear",
    "Logit",
    "MaskedAutoregressive",
    "Permutation",
    "ResidualMLP",
    "Sigmoid",
    "Squeeze",
    "Tanh",
    "additive",
    "affine",
    "alternating_mask",
    "autoregressive_flow",
    "checkerboard_mask",
    "coupling_flow",
    "half_mask",
    "hashable",
    "rational_quadratic_spline",
]
