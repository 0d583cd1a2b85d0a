"""Flows for points and tables, put together as the papers do, and their networks."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from genjax.bijectors.autoregressive import MaskedAutoregressive
from genjax.bijectors.base import Bijector
from genjax.bijectors.containers import Chain
from genjax.bijectors.coupling import Coupling, alternating_mask, hashable
from genjax.bijectors.elementwise import (
    Elementwise,
    additive,
    affine,
    rational_quadratic_spline,
)
from genjax.bijectors.flow import Flow
from genjax.bijectors.linear import ActNorm, LULinear, Permutation

_ELEMENTWISE = {"additive": additive, "affine": affine}


class ResidualMLP(nn.Module):
    """Residual multilayer perceptron whose outputs start at zero.

    Attributes:
        num_outputs: Width of the output.
        hidden_size: Width of every layer.
        num_blocks: Number of residual blocks of two layers.

    References:
        Durkan et al., Neural Spline Flows, arXiv:1906.04032, appendix B.
    """

    num_outputs: int
    hidden_size: int = 64
    num_blocks: int = 2

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None) -> Array:
        """Maps ``[B, D]`` and a context ``[B, C]`` to ``[B, num_outputs]``."""
        if context is not None:
            x = jnp.concatenate([x, context], axis=-1)
        h = nn.Dense(self.hidden_size, name="dense_in")(x)
        for i in range(self.num_blocks):
            r = nn.Dense(self.hidden_size, name=f"dense_{i}_0")(nn.relu(h))
            h += nn.Dense(self.hidden_size, name=f"dense_{i}_1")(nn.relu(r))
        zeros = nn.initializers.zeros_init()
        return nn.Dense(self.num_outputs, kernel_init=zeros, name="dense_out")(nn.relu(h))


def _elementwise(name: str, num_bins: int, bound: float) -> Elementwise:
    if name == "spline":
        return rational_quadratic_spline(num_bins=num_bins, bound=bound)
    if name not in _ELEMENTWISE:
        raise ValueError(f"elementwise must be additive, affine or spline, got {name!r}")
    return _ELEMENTWISE[name]()


def _check(event_shape: tuple[int, ...], num_layers: int) -> int:
    if len(event_shape) != 1:
        raise ValueError(f"this flow is for points [D], got events of shape {event_shape}")
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    return event_shape[0]


def coupling_flow(
    *,
    event_shape: tuple[int, ...],
    elementwise: Literal["additive", "affine", "spline"] = "spline",
    num_layers: int = 5,
    hidden_size: int = 64,
    num_blocks: int = 2,
    num_bins: int = 8,
    bound: float = 3.0,
    linear: bool = True,
    actnorm: bool = True,
) -> Flow:
    """Coupling layers with linear layers between them (Real NVP, neural spline flows).

    Args:
        event_shape: ``(D,)``, at least 2.
        elementwise: What a coupling layer applies to each entry.
        num_layers: Number of coupling layers; they keep even and odd entries in turn.
        hidden_size: Width of the networks.
        num_blocks: Their number of residual blocks.
        num_bins: Bins of a spline.
        bound: Half the interval of a spline.
        linear: Whether to put an invertible linear layer before each, and one at the end.
        actnorm: Whether to begin with a scale and shift set by the data, which brings it into the
            interval of a spline.

    Returns:
        The flow, from data to latents.

    Raises:
        ValueError: If the event is no vector, or there are no layers.

    References:
        Durkan et al., arXiv:1906.04032, section 4 and appendix B.
    """
    size = _check(event_shape, num_layers)
    maps = _elementwise(elementwise, num_bins, bound)
    layers: list[Bijector] = [ActNorm()] if actnorm else []

    def conditioner(num_outputs: int) -> nn.Module:
        return ResidualMLP(num_outputs, hidden_size, num_blocks)

    for i in range(num_layers):
        if linear:
            layers.append(LULinear())
        mask = alternating_mask(size, even=i % 2 == 0)
        layers.append(Coupling(hashable(mask), maps, conditioner))
    if linear:
        layers.append(LULinear())
    return Flow(Chain(tuple(layers)), event_shape)


def autoregressive_flow(
    *,
    event_shape: tuple[int, ...],
    elementwise: Literal["additive", "affine", "spline"] = "affine",
    num_layers: int = 5,
    hidden_size: int = 64,
    num_hidden_layers: int = 2,
    num_bins: int = 8,
    bound: float = 3.0,
    actnorm: bool = True,
) -> Flow:
    """Masked autoregressive layers, the order reversed between them (MAF).

    A density takes one pass, a sample ``D`` passes a layer.

    Args:
        event_shape: ``(D,)``.
        elementwise: What a layer applies to each entry.
        num_layers: Number of layers.
        hidden_size: Width of the networks.
        num_hidden_layers: Their number of hidden layers.
        num_bins: Bins of a spline.
        bound: Half the interval of a spline.
        actnorm: Whether to begin with a scale and shift set by the data.

    Returns:
        The flow, from data to latents.

    Raises:
        ValueError: If the event is no vector, or there are no layers.

    References:
        Papamakarios et al., arXiv:1705.07057; with splines Durkan et al., arXiv:1906.04032.
    """
    size = _check(event_shape, num_layers)
    maps = _elementwise(elementwise, num_bins, bound)
    layers: list[Bijector] = [ActNorm()] if actnorm else []
    for _ in range(num_layers):
        layers.append(MaskedAutoregressive(maps, hidden_size, num_hidden_layers))
        layers.append(Permutation(tuple(int(i) for i in np.arange(size)[::-1])))
    return Flow(Chain(tuple(layers)), event_shape)
