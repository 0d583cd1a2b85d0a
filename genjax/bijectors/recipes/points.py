"""Flows for points and tables, put together as the papers do.

They map vectors. Events of any other shape are flattened: images are rows of a table to them, and
the flow's own ``event_shape`` is that of a row.
"""

import math
from typing import Literal

import flax.linen as nn
import numpy as np

from genjax.bijectors.autoregressive import MaskedAutoregressive
from genjax.bijectors.base import Bijector
from genjax.bijectors.containers import Chain, Repeat
from genjax.bijectors.continuous import ContinuousFlow
from genjax.bijectors.coupling import Coupling, alternating_mask
from genjax.bijectors.elementwise import (
    Elementwise,
    additive,
    affine,
    rational_quadratic_spline,
)
from genjax.bijectors.flow import Flow
from genjax.bijectors.linear import ActNorm, LULinear, Permutation
from genjax.bijectors.marginal import Marginal
from genjax.nets.flow_mlp import ConcatSquashMLP, ResidualMLP
from genjax.ode import Solver, Trace, trace_for

_ELEMENTWISE = {"additive": additive, "affine": affine}


def _elementwise(name: str, num_bins: int, bound: float) -> Elementwise:
    if name == "spline":
        return rational_quadratic_spline(num_bins=num_bins, bound=bound)
    if name not in _ELEMENTWISE:
        raise ValueError(f"elementwise must be additive, affine or spline, got {name!r}")
    return _ELEMENTWISE[name]()


def _row_size(event_shape: tuple[int, ...], num_layers: int) -> int:
    """Entries of an event as a row of a table."""
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    return math.prod(event_shape)


def _repeated(layers: list[Bijector], count: int) -> list[Bijector]:
    """The layers ``count`` times: as a loop where there are several.

    The backward pass computes all but the products again: for splines that takes less time than to
    store and read what is inside them, for affine maps as long.
    """
    if count < 2:
        return layers * count
    return [Repeat(Chain(tuple(layers)), count, remat="dots", unroll=False)]


def coupling_flow(
    *,
    event_shape: tuple[int, ...],
    elementwise: Literal["additive", "affine", "spline"] = "spline",
    num_layers: int = 5,
    hidden_size: int = 64,
    num_blocks: int = 2,
    num_bins: int = 8,
    bound: float = 3.0,
    dropout_rate: float = 0.0,
    linear: bool = True,
    permute: bool = False,
    marginal: bool = False,
    actnorm: bool = True,
    context_size: int | None = None,
) -> Flow:
    """Coupling layers with linear layers between them (Real NVP, neural spline flows).

    Args:
        event_shape: Shape of one example, of any rank. The flow maps rows of as many entries,
            ``(D,)``, of which there must be at least 2: to it images are rows of a table.
        elementwise: What a coupling layer applies to each entry that it maps: ``"additive"``,
            ``"affine"`` or ``"spline"``.
        num_layers: Number of coupling layers, at least 1; they keep even and odd entries in turn.
        hidden_size: Width of the couplings' networks.
        num_blocks: Number of residual blocks of each network.
        num_bins: Number of bins of a spline.
        bound: Half the length of the interval on which a spline is not the identity.
        dropout_rate: Share of activations dropped in the networks, in [0, 1).
        linear: Whether to put an invertible linear layer before each, and one at the end.
        permute: Whether to put a fixed random permutation before each linear layer.
        marginal: Whether the entries that a coupling keeps are mapped too, each on its own.
        actnorm: Whether to begin with a scale and shift set by the data, which brings it into the
            interval of a spline.
        context_size: Length of the context that the flow is conditional on; None for no context.

    Returns:
        The flow, from data to latents.

    Raises:
        ValueError: If the event has fewer than two entries, or there are no layers.

    References:
        Durkan et al., arXiv:1906.04032, section 4 and appendix B.
    """
    size = _row_size(event_shape, num_layers)
    maps = _elementwise(elementwise, num_bins, bound)
    layers: list[Bijector] = [ActNorm()] if actnorm else []

    def conditioner(num_outputs: int) -> nn.Module:
        return ResidualMLP(num_outputs, hidden_size, num_blocks, dropout_rate)

    def layer(*, even: bool) -> list[Bijector]:
        mask = alternating_mask(size, even=even)
        parts: list[Bijector] = [Permutation()] if permute else []
        if linear:
            parts.append(LULinear())
        parts.append(Coupling(mask, maps, conditioner))
        if marginal:
            parts.append(Marginal(maps, mask))
        return parts

    # Pairs of layers are one loop; of an odd number of layers the last stands by itself.
    layers += _repeated([*layer(even=True), *layer(even=False)], num_layers // 2)
    if num_layers % 2:
        layers += layer(even=True)
    if permute:
        layers.append(Permutation())
    if linear:
        layers.append(LULinear())
    return Flow(Chain(tuple(layers)), (size,), context_size)


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
    context_size: int | None = None,
) -> Flow:
    """Masked autoregressive layers, the order reversed between them (MAF).

    A density takes one pass, a sample ``D`` passes a layer.

    Args:
        event_shape: Shape of one example, of any rank. The flow maps rows of as many entries,
            ``(D,)``: to it images are rows of a table.
        elementwise: What a layer applies to each entry: ``"additive"``, ``"affine"`` or
            ``"spline"``.
        num_layers: Number of autoregressive layers, at least 1.
        hidden_size: Width of the layers' networks.
        num_hidden_layers: Number of hidden layers of each network.
        num_bins: Number of bins of a spline.
        bound: Half the length of the interval on which a spline is not the identity.
        actnorm: Whether to begin with a scale and shift set by the data.
        context_size: Length of the context that the flow is conditional on; None for no context.

    Returns:
        The flow, from data to latents.

    Raises:
        ValueError: If there are no layers, or ``elementwise`` is unknown.

    References:
        Papamakarios et al., arXiv:1705.07057; with splines Durkan et al., arXiv:1906.04032.
    """
    size = _row_size(event_shape, num_layers)
    maps = _elementwise(elementwise, num_bins, bound)
    layers: list[Bijector] = [ActNorm()] if actnorm else []
    reverse = Permutation(tuple(int(i) for i in np.arange(size)[::-1]))
    layer = [MaskedAutoregressive(maps, hidden_size, num_hidden_layers), reverse]
    layers += _repeated(layer, num_layers)
    return Flow(Chain(tuple(layers)), (size,), context_size)


def continuous_flow(
    *,
    event_shape: tuple[int, ...],
    hidden_size: int = 64,
    num_layers: int = 3,
    trace: Trace | None = None,
    method: Literal["dopri5", "tsit5", "heun", "euler"] = "dopri5",
    tolerance: float = 1e-5,
    num_steps: int = 100,
    actnorm: bool = True,
    context_size: int | None = None,
) -> Flow:
    """Points that move along a learned velocity field (FFJORD).

    Args:
        event_shape: Shape of one example, of any rank. The flow maps rows of as many entries,
            ``(D,)``: to it images are rows of a table.
        hidden_size: Width of the field's network.
        num_layers: Number of its hidden layers, at least 1.
        trace: How the divergence is computed: ``"exact"`` or ``"hutchinson"``; None for exact up to
            16 entries.
        method: The method of the :class:`~genjax.ode.Solver`.
        tolerance: Relative and absolute tolerance of the adaptive methods, above 0.
        num_steps: Number of steps of the methods of fixed steps.
        actnorm: Whether to begin with a scale and shift set by the data.
        context_size: Length of the context that the flow is conditional on; None for no context.

    Returns:
        The flow, from data to latents.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Grathwohl et al., FFJORD, arXiv:1810.01367.
    """
    size = _row_size(event_shape, num_layers)
    trace = trace_for(size, trace)
    solver = Solver(method=method, rtol=tolerance, atol=tolerance, num_steps=num_steps)
    flow = ContinuousFlow(ConcatSquashMLP(hidden_size, num_layers), solver, trace)
    layers: tuple[Bijector, ...] = (ActNorm(), flow) if actnorm else (flow,)
    return Flow(Chain(layers), (size,), context_size, divergence=trace)
