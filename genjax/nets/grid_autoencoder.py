"""Encoders and decoders between images and coarse grids of vectors."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float, Int

from genjax.nets.convolution import Conv, ConvTranspose


class _ResidualBlock(nn.Module):
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = Conv(self.channels, (3, 3), dtype=self.dtype, name="conv_0")(nn.relu(x))
        return x + Conv(x.shape[-1], (1, 1), dtype=self.dtype, name="conv_1")(nn.relu(h))


class GridEncoder(nn.Module):
    """Images to features on a grid: strided convolutions, then residual blocks.

    Attributes:
        channels: Channels of the features; half as many at the first halving.
        num_halvings: Number of times the resolution is halved.
        num_blocks: Number of residual blocks at the end.
        residual_channels: Channels inside of residual blocks.
        dtype: The precision of the computation.

    References:
        van den Oord et al., arXiv:1711.00937, section 4.1.
    """

    channels: int = 128
    num_halvings: int = 2
    num_blocks: int = 2
    residual_channels: int = 32
    dtype: Any = None

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
            Features, ``[B, H / 2^n, W / 2^n, channels]``.

        Raises:
            ValueError: If the sides cannot be halved so often.
        """
        if any(side % 2**self.num_halvings for side in x.shape[1:3]):
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} cannot be halved {self.num_halvings} times; "
                "lower num_halvings"
            )
        h = x
        for i in range(self.num_halvings):
            features = self.channels if i else self.channels // 2
            h = Conv(features, (4, 4), (2, 2), dtype=self.dtype, name=f"halve_{i}")(h)
            h = nn.relu(h)
        h = Conv(self.channels, (3, 3), dtype=self.dtype, name="conv")(h)
        for i in range(self.num_blocks):
            h = _ResidualBlock(self.residual_channels, self.dtype, name=f"block_{i}")(h)
        return nn.relu(h)


class GridDecoder(nn.Module):
    """Vectors on a grid to features of each pixel: residual blocks, then transposed convolutions.

    Attributes:
        channels: Channels on the grid; half as many at the full resolution.
        num_doublings: Number of times the resolution is doubled.
        num_blocks: Number of residual blocks at the beginning.
        residual_channels: Channels inside of residual blocks.
        dtype: The precision of the computation.
    """

    channels: int = 128
    num_doublings: int = 2
    num_blocks: int = 2
    residual_channels: int = 32
    dtype: Any = None

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
            Features, ``[B, h 2^n, w 2^n, channels / 2]``.
        """
        h = Conv(self.channels, (3, 3), dtype=self.dtype, name="conv")(latent)
        for i in range(self.num_blocks):
            h = _ResidualBlock(self.residual_channels, self.dtype, name=f"block_{i}")(h)
        h = nn.relu(h)
        for i in reversed(range(self.num_doublings)):
            features = self.channels if i else self.channels // 2
            h = ConvTranspose(features, (4, 4), (2, 2), dtype=self.dtype, name=f"double_{i}")(h)
            h = nn.relu(h)
        return h
