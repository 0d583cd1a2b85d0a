"""The encoder and decoder of latent diffusion: residual blocks at every resolution."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.convolution import Conv
from genjax.nets.normalization import GroupNorm
from genjax.nets.remat import Remat, with_remat
from genjax.nets.unet import AttentionBlock, ResidualBlock, Upsample


class _Block(nn.Module):
    """A residual block, and attention where it is asked for."""

    channels: int
    with_attention: bool
    num_groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        block = ResidualBlock(self.channels, "add", self.num_groups, 0.0, self.dtype, name="block")
        x = block(x, None, True)
        if self.with_attention:
            x = AttentionBlock(1, self.num_groups, self.dtype, name="attention")(x)
        return x


class _Middle(nn.Module):
    """Two blocks with attention between them, at the lowest resolution."""

    num_groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _Block(x.shape[-1], True, self.num_groups, self.dtype, name="first")(x)
        return _Block(x.shape[-1], False, self.num_groups, self.dtype, name="second")(x)


class ResidualEncoder(nn.Module):
    """Images to features on a grid, by residual blocks at resolutions of which each halves one.

    ``num_blocks`` blocks at each resolution, then two around a self-attention, a group
    normalisation and swish. Residual branches start at zero.

    Attributes:
        channels: Channels at the full resolution.
        multipliers: Channels at each resolution as multiples of ``channels``, from the full one:
            the grid's sides are those of images over 2 to their number less one.
        num_blocks: Residual blocks at each resolution.
        attention_sizes: Heights of resolutions where attention follows each block.
        num_groups: Number of groups of the group normalisation; must divide ``channels``.
        dtype: ``"float32"`` or ``"bfloat16"`` for all but the first convolution.
        remat: What the backward pass computes again: ``"none"``, ``"dots"`` (all but the results of
            matrix products and convolutions) or ``"full"`` (each block from its input).

    References:
        Rombach et al., arXiv:2112.10752, appendix G and table 8, after Esser et al.,
        arXiv:2012.09841, table 7. The defaults are those of a factor of 8.
    """

    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 4, 4)
    num_blocks: int = 2
    attention_sizes: Sequence[int] = ()
    num_groups: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        """Looks at images.

        Args:
            x: Images, ``[B, H, W, C]``.

        Returns:
            Features, ``[B, H / 2^(n - 1), W / 2^(n - 1), channels * multipliers[-1]]`` for ``n``
            multipliers.

        Raises:
            ValueError: If the sides cannot be halved so often.
        """
        halvings = len(self.multipliers) - 1
        if any(side % 2**halvings for side in x.shape[1:3]):
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} cannot be halved {halvings} times: give "
                f"fewer multipliers than {tuple(self.multipliers)}"
            )
        dtype = jnp.dtype(self.dtype)
        block = with_remat(_Block, self.remat)
        h = Conv(self.channels, (3, 3), dtype=jnp.float32, name="conv_in")(x).astype(dtype)
        for level, multiplier in enumerate(self.multipliers):
            width = self.channels * multiplier
            if level:
                h = Conv(h.shape[-1], (3, 3), (2, 2), dtype=dtype, name=f"halve_{level}")(h)
            attends = h.shape[1] in self.attention_sizes
            for i in range(self.num_blocks):
                h = block(width, attends, self.num_groups, dtype, name=f"down_{level}_{i}")(h)
        h = with_remat(_Middle, self.remat)(self.num_groups, dtype, name="middle")(h)
        return nn.swish(GroupNorm(self.num_groups, dtype=dtype, name="norm_out")(h))


class ResidualDecoder(nn.Module):
    """Vectors on a grid to features of each pixel: the way of :class:`ResidualEncoder` back.

    Attributes:
        channels: Channels at the full resolution.
        multipliers: Channels at each resolution as multiples of ``channels``, from the full one.
        num_blocks: Residual blocks at each resolution; published models have one more than their
            encoders.
        attention_sizes: Heights of resolutions where attention follows each block.
        num_groups: Number of groups of the group normalisation; must divide ``channels``.
        dtype: ``"float32"`` or ``"bfloat16"`` for all but the first convolution.
        remat: As of the encoder.

    References:
        As of the encoder.
    """

    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 4, 4)
    num_blocks: int = 3
    attention_sizes: Sequence[int] = ()
    num_groups: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, latent: Float[Array, "B h w D"], label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B H W F"]:
        """Describes what vectors stand for.

        Args:
            latent: Vectors, ``[B, h, w, D]``.
            label: Not looked at.

        Returns:
            Features, ``[B, h 2^(n - 1), w 2^(n - 1), channels * multipliers[0]]`` for ``n``
            multipliers.
        """
        dtype = jnp.dtype(self.dtype)
        block = with_remat(_Block, self.remat)
        width = self.channels * self.multipliers[-1]
        h = Conv(width, (3, 3), dtype=jnp.float32, name="conv_in")(latent).astype(dtype)
        h = with_remat(_Middle, self.remat)(self.num_groups, dtype, name="middle")(h)
        for level in reversed(range(len(self.multipliers))):
            width = self.channels * self.multipliers[level]
            attends = h.shape[1] in self.attention_sizes
            for i in range(self.num_blocks):
                h = block(width, attends, self.num_groups, dtype, name=f"up_{level}_{i}")(h)
            if level:
                h = Upsample(width, dtype, name=f"double_{level}")(h)
        return nn.swish(GroupNorm(self.num_groups, dtype=dtype, name="norm_out")(h))
