"""Flows of images, put together as the papers do.

Data are dequantised grey levels in [0, 1); what brings them to where a flow works is part of it.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from genjax.bijectors.autoregressive import TransformerAutoregressive
from genjax.bijectors.base import Bijector
from genjax.bijectors.containers import Chain, MultiScale, Repeat
from genjax.bijectors.coupling import Conditioner, Coupling, checkerboard_mask, half_mask
from genjax.bijectors.elementwise import (
    Elementwise,
    additive,
    affine,
    rational_quadratic_spline,
    sigmoid_affine,
)
from genjax.bijectors.flow import Flow
from genjax.bijectors.linear import ActNorm, Convolution1x1, LULinear, Permutation
from genjax.bijectors.shapes import Affine, Logit, Reshape, Squeeze
from genjax.nets.flow_conv import ConvNet, GatedConvNet, ResidualConvNet
from genjax.nets.flow_transformer import CouplingTransformer
from genjax.nets.remat import Remat


def _image(event_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(event_shape) != 3:
        raise ValueError(f"this flow is for images [H, W, C], got events of shape {event_shape}")
    return event_shape


def _check_squeezes(event_shape: tuple[int, ...], factor: int, reason: str) -> None:
    height, width, _ = event_shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(
            f"{reason} needs a height and width that {factor} divides, got {height} x {width}"
        )


def _to_real_line(alpha: float | None, scaling: Affine) -> tuple[Bijector, ...]:
    """The logit, which actnorm brings to a known scale, or a fixed scaling."""
    return (scaling,) if alpha is None else (Logit(alpha), ActNorm())


def _domain(alpha: float | None) -> tuple[float, float] | None:
    return None if alpha is None else (0.0, 1.0)


def _patches(
    event_shape: tuple[int, ...], patch_size: int
) -> tuple[tuple[Bijector, ...], tuple[int, int], int]:
    """What cuts images into patches ``[B, T, D]``, the grid they make, and their size ``D``."""
    height, width, channels = _image(event_shape)
    _check_squeezes(event_shape, patch_size, f"patches of {patch_size} pixels")
    grid = (height // patch_size, width // patch_size)
    size = patch_size**2 * channels
    cut = (Squeeze(patch_size), Reshape((*grid, size), (math.prod(grid), size)))
    return cut, grid, size


def _conditioner(
    net: str, hidden_size: int, num_blocks: int, dropout_rate: float, dtype: Any
) -> Conditioner:
    if net == "conv":
        if dropout_rate:
            raise ValueError("the net 'conv' has no dropout; take 'residual' or 'gated'")
        return functools.partial(ConvNet, hidden_size=hidden_size, dtype=dtype)
    nets = {"residual": ResidualConvNet, "gated": GatedConvNet}
    if net not in nets:
        raise ValueError(f"net must be conv, gated or residual, got {net!r}")
    return functools.partial(
        nets[net],
        hidden_size=hidden_size,
        num_blocks=num_blocks,
        dropout_rate=dropout_rate,
        dtype=dtype,
    )


def real_nvp(
    *,
    event_shape: tuple[int, ...],
    num_scales: int = 2,
    num_couplings: int = 3,
    num_final_couplings: int = 4,
    net: Literal["gated", "residual"] = "residual",
    hidden_size: int = 64,
    num_blocks: int = 8,
    dropout_rate: float = 0.0,
    alpha: float = 0.05,
    context_size: int | None = None,
    dtype: Any = None,
) -> Flow:
    """Real NVP: affine couplings by checkerboards and by channels, at several scales.

    A scale is checkerboard couplings, a squeeze, and channel couplings, after which half of the
    channels are put aside; the last is checkerboard couplings only. Actnorm stands where the paper
    has batch normalisation, so that a row's density does not depend on its batch; the logit keeps
    ``alpha`` from both ends.

    Args:
        event_shape: Shape of the images, ``(H, W, C)``.
        num_scales: Number of scales; all but the last squeeze.
        num_couplings: Number of couplings of each kind in a scale.
        num_final_couplings: Number of couplings of the last scale.
        net: The couplings' networks: ``"residual"`` or ``"gated"``.
        hidden_size: Channels of the networks in the first scale; doubled at each scale.
        num_blocks: Number of residual blocks of each network.
        dropout_rate: Share of activations dropped in the networks, in [0, 1).
        alpha: Distance from 0 and 1, in (0, 0.5), that the
            :class:`~genjax.bijectors.shapes.Logit` at the beginning keeps.
        context_size: Length of the context that the flow is conditional on; None for no context.
        dtype: The precision of the trunks of the networks; None for that of the images.

    Returns:
        The flow, from [0, 1] to latents.

    Raises:
        ValueError: If squeezes do not divide the image, or an argument is out of range.

    References:
        Dinh et al., Density estimation using Real NVP, arXiv:1605.08803, sections 3.6, 4.1.
    """
    height, width, channels = _image(event_shape)
    if min(num_scales, num_couplings, num_final_couplings) < 1:
        raise ValueError("num_scales and the numbers of couplings must be at least 1")
    _check_squeezes(event_shape, 2 ** (num_scales - 1), f"a flow of {num_scales} scales")
    scales: list[Bijector] = []

    def couplings(masks: Sequence[np.ndarray], size: int) -> list[Bijector]:
        make = _conditioner(net, size, num_blocks, dropout_rate, dtype)
        layers: list[Bijector] = []
        for mask in masks:
            layers += [Coupling(mask, affine(), make), ActNorm()]
        return layers

    for i in range(num_scales):
        # Section 3.6 of the paper: checkerboards, squeeze, channels; the last scale has no squeeze.
        last = i == num_scales - 1
        count = num_final_couplings if last else num_couplings
        board = [checkerboard_mask(height, width, even=j % 2 == 0) for j in range(count)]
        layers = couplings(board, hidden_size * 2**i)
        if not last:
            height, width, channels = height // 2, width // 2, 4 * channels
            halves = [half_mask(channels, first=j % 2 == 0) for j in range(count)]
            layers += [Squeeze(), *couplings(halves, hidden_size * 2 ** (i + 1))]
            channels //= 2  # the other half is put aside by MultiScale
        first = _to_real_line(alpha, Affine()) if not i else ()
        scales.append(Chain((*first, *layers)))
    bijector = MultiScale(tuple(scales)) if num_scales > 1 else scales[0]
    return Flow(bijector, event_shape, context_size, _domain(alpha))


def glow(
    *,
    event_shape: tuple[int, ...],
    num_scales: int = 3,
    num_steps: int = 32,
    elementwise: Literal["additive", "affine", "spline"] = "affine",
    net: Literal["conv", "gated", "residual"] = "conv",
    hidden_size: int = 512,
    num_blocks: int = 3,
    dropout_rate: float = 0.0,
    num_bins: int = 4,
    bound: float = 3.0,
    linear: Literal["direct", "lu"] = "lu",
    split: bool = True,
    learned_prior: bool = True,
    alpha: float | None = None,
    remat: Remat = "none",
    context_size: int | None = None,
    dtype: Any = None,
) -> Flow:
    """Glow: steps of actnorm, 1x1 convolution and channel coupling at several scales.

    With ``elementwise="spline"`` the image flow of neural spline flows. The steps of a scale are
    one loop over stacked parameters. A scale ends with a 1x1 convolution.

    Args:
        event_shape: Shape of the images, ``(H, W, C)``.
        num_scales: Number of scales, each of which squeezes.
        num_steps: Number of steps of a scale.
        elementwise: What a coupling applies to each entry; ``"affine"`` is Glow's, with a scale of
            ``sigmoid(r + 2)``.
        net: The couplings' networks: ``"conv"`` (Glow's), ``"residual"`` or ``"gated"``.
        hidden_size: Channels of the networks.
        num_blocks: Number of residual blocks of each network, if it has any.
        dropout_rate: Share of activations dropped in the networks, in [0, 1); ``"conv"`` has no
            dropout.
        num_bins: Number of bins of a spline.
        bound: Half the length of the interval on which a spline is not the identity.
        linear: ``"direct"`` for 1x1 convolutions by a matrix as it is, ``"lu"`` for its triangular
            factors.
        split: Whether half of the channels are put aside between scales.
        learned_prior: Whether what is put aside has a mean and scale that depend on what goes on.
        alpha: Distance from 0 and 1, in (0, 0.5), that a :class:`~genjax.bijectors.shapes.Logit` at
            the beginning keeps, with an actnorm after it; None for the paper's scaling to
            [-0.5, 0.5]. Helps where many pixels are at an end of their range.
        remat: What the backward pass computes again, see
            :class:`~genjax.bijectors.containers.Repeat`.
        context_size: Length of the context that the flow is conditional on; None for no context.
        dtype: The precision of the trunks of the networks; None for that of the images.

    Returns:
        The flow, from [0, 1] to latents.

    Raises:
        ValueError: If squeezes do not divide the image, or an argument is out of range.

    References:
        Kingma and Dhariwal, Glow, arXiv:1807.03039, section 3; with splines Durkan et al.,
        arXiv:1906.04032, section 5.3.
    """
    channels = _image(event_shape)[2]
    if min(num_scales, num_steps) < 1:
        raise ValueError("num_scales and num_steps must be at least 1")
    _check_squeezes(event_shape, 2**num_scales, f"a flow of {num_scales} scales")
    maps: dict[str, Elementwise] = {
        "additive": additive(),
        "affine": sigmoid_affine(offset=2.0, max_scale=1.0),
        "spline": rational_quadratic_spline(num_bins=num_bins, bound=bound),
    }
    if elementwise not in maps:
        raise ValueError(f"elementwise must be additive, affine or spline, got {elementwise!r}")
    if linear not in ("direct", "lu"):
        raise ValueError(f"linear must be direct or lu, got {linear!r}")
    make = _conditioner(net, hidden_size, num_blocks, dropout_rate, dtype)

    def rotation() -> Bijector:
        return Convolution1x1() if linear == "direct" else LULinear(use_bias=False, identity=False)

    scales: list[Bijector] = []
    for i in range(num_scales):
        channels *= 4
        coupling = Coupling(half_mask(channels), maps[elementwise], make)
        step = Chain((ActNorm(), rotation(), coupling))
        layers = [Squeeze(), Repeat(step, num_steps, remat), rotation()]
        first = _to_real_line(alpha, Affine(1.0, -0.5)) if not i else ()
        scales.append(Chain((*first, *layers)))
        # Half of the channels go on to the next scale, whose squeeze makes four of each.
        if split:
            channels //= 2
    if not split or num_scales == 1:
        return Flow(Chain(tuple(scales)), event_shape, context_size, _domain(alpha))
    # Without blocks: a 3x3 convolution in, another out, which starts at zero: a standard normal.
    prior = functools.partial(ResidualConvNet, hidden_size=32, num_blocks=0)
    bijector = MultiScale(tuple(scales), prior if learned_prior else None)
    return Flow(bijector, event_shape, context_size, _domain(alpha))


_TOKEN_MASKS = ("checkerboard", "columns", "rows")


def _token_mask(kind: str, height: int, width: int) -> np.ndarray:
    """True for the patches that a coupling keeps, ``[height * width]``."""
    name, _, inverse = kind.partition("_")
    if name not in _TOKEN_MASKS or inverse not in ("", "inverse"):
        valid = ", ".join(("channels", *_TOKEN_MASKS))
        raise ValueError(f"kinds must be among {valid} (or those with _inverse), got {kind!r}")
    rows, columns = np.mgrid[:height, :width]
    index = {"checkerboard": rows + columns, "columns": columns, "rows": rows}[name]
    return ((index % 2 == 0) != bool(inverse)).reshape(-1)


_JET_CYCLE = (
    ("channels",) * 4 + ("checkerboard",) + ("channels",) * 4 + ("checkerboard_inverse",)
)  # fmt: skip


def jet(
    *,
    event_shape: tuple[int, ...],
    patch_size: int = 4,
    num_couplings: int = 32,
    kinds: Sequence[str] = _JET_CYCLE,
    hidden_size: int = 512,
    num_blocks: int = 2,
    num_heads: int = 8,
    alpha: float | None = None,
    remat: Remat = "full",
    context_size: int | None = None,
    dtype: Any = None,
) -> Flow:
    """Jet: affine couplings between halves of patches, with vision transformers inside.

    Whole cycles of kinds are one loop over stacked parameters. (The released code's six kinds of
    splits of the patches in turn are a cycle of 30: ``kinds`` takes any.)

    Args:
        event_shape: Shape of the images, ``(H, W, C)``.
        patch_size: Side of a patch in pixels.
        num_couplings: Number of couplings.
        kinds: What they split, in turn: ``channels`` by a fixed random permutation, or patches by
            ``checkerboard``, ``columns`` or ``rows``, with ``_inverse`` for the other half.
        hidden_size: Width of the transformers.
        num_blocks: Number of blocks of each transformer.
        num_heads: Number of attention heads, which must divide ``hidden_size``.
        alpha: Distance from 0 and 1, in (0, 0.5), that a :class:`~genjax.bijectors.shapes.Logit` at
            the beginning keeps, with an actnorm after it; None for the paper's scaling to [-1, 1].
            Helps where many pixels are at an end of their range.
        remat: What the backward pass computes again, see
            :class:`~genjax.bijectors.containers.Repeat`.
        context_size: Length of the context that the flow is conditional on; None for no context.
        dtype: The precision of the trunks of the transformers; None for that of the images.

    Returns:
        The flow, from [0, 1] to latents.

    Raises:
        ValueError: If patches do not divide the image, or an argument is out of range.

    References:
        Kolesnikov et al., Jet: A Modern Transformer-Based Normalizing Flow, arXiv:2412.15129.
    """
    if num_couplings < 1 or not kinds:
        raise ValueError("num_couplings must be at least 1 and kinds not empty")
    patches, grid, size = _patches(event_shape, patch_size)
    for kind in kinds:  # those that come after the last coupling, too
        if kind != "channels":
            _token_mask(kind, *grid)
    make = functools.partial(
        CouplingTransformer,
        hidden_size=hidden_size,
        num_blocks=num_blocks,
        num_heads=num_heads,
        dtype=dtype,
    )

    def layers(kinds: Sequence[str]) -> Chain:
        chained: list[Bijector] = []
        for kind in kinds:
            if kind == "channels":
                mask = half_mask(size)
                chained += [Permutation(), Coupling(mask, sigmoid_affine(), make)]
            else:
                mask = _token_mask(kind, *grid)
                chained.append(Coupling(mask, sigmoid_affine(), make, axis=1))
        return Chain(tuple(chained))

    # Each coupling scales about half of the entries by 2 at most, the scaling before them all.
    mapped = {"channels": (size - size // 2) / size}
    shares = [mapped.get(kinds[i % len(kinds)], 0.5) for i in range(num_couplings)]
    bound = (1.0 + sum(shares)) * math.log(2.0) if alpha is None else math.inf
    # Whole cycles have one structure and can share a loop; what is left over is written out.
    cycles, rest = divmod(num_couplings, len(kinds))
    couplings: tuple[Bijector, ...] = ()
    if cycles:
        couplings += (Repeat(layers(kinds), cycles, remat, unroll=False),)
    if rest:
        couplings += (layers(kinds[:rest]),)
    return Flow(
        Chain((*_to_real_line(alpha, Affine(2.0, -1.0)), *patches, *couplings)),
        event_shape,
        context_size,
        _domain(alpha),
        max_log_det_per_dim=bound,
    )


def tarflow(
    *,
    event_shape: tuple[int, ...],
    patch_size: int = 2,
    num_layers: int = 8,
    hidden_size: int = 768,
    num_blocks: int = 8,
    num_heads: int = 12,
    alpha: float | None = None,
    remat: Remat = "none",
    context_size: int | None = None,
    dtype: Any = None,
) -> Flow:
    """TarFlow: autoregressive maps of patches by causal transformers, the order turned in between.

    A density takes one pass; a sample one pass a patch and layer, with a key/value cache. Log
    scales are limited to 3 by a tanh.

    Args:
        event_shape: Shape of the images, ``(H, W, C)``.
        patch_size: Side of a patch in pixels.
        num_layers: Number of autoregressive maps.
        hidden_size: Width of the transformers.
        num_blocks: Number of blocks of each transformer.
        num_heads: Number of attention heads, which must divide ``hidden_size``.
        alpha: Distance from 0 and 1, in (0, 0.5), that a :class:`~genjax.bijectors.shapes.Logit` at
            the beginning keeps, with an actnorm after it; None for the paper's scaling to [-1, 1].
            Helps where many pixels are at an end of their range.
        remat: What the backward pass computes again, see
            :class:`~genjax.bijectors.containers.Repeat`.
        context_size: Length of the context that the flow is conditional on; None for no context.
        dtype: The precision of the trunks of the transformers; None for that of the images.

    Returns:
        The flow, from [0, 1] to latents.

    Raises:
        ValueError: If patches do not divide the image, or an argument is out of range.

    References:
        Zhai et al., Normalizing Flows are Capable Generative Models, arXiv:2412.06329.
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got {num_layers}")
    patches, grid, _ = _patches(event_shape, patch_size)
    num_tokens = math.prod(grid)
    layer = TransformerAutoregressive(
        affine(), num_tokens, hidden_size, num_blocks, num_heads, dtype
    )
    # Each layer sees the tokens in the opposite order of the one before it: a token that came
    # first, and was left as it is, comes last.
    turn = Permutation(tuple(range(num_tokens))[::-1], axis=1)
    return Flow(
        Chain(
            (
                *_to_real_line(alpha, Affine(2.0, -1.0)),
                *patches,
                Repeat(Chain((layer, turn)), num_layers, remat, unroll=False),
            )
        ),
        event_shape,
        context_size,
        _domain(alpha),
    )
