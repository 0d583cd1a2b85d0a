"""Networks that enlarge images: SRResNet and the residual-in-residual dense network of ESRGAN."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from genjax.nets.conditioning import BatchNorm
from genjax.nets.convolution import Conv


def depth_to_space(x: Float[Array, "B H W D"], factor: int) -> Float[Array, "B H2 W2 C"]:
    """Spreads channels over pixels: an image of a higher resolution, of the same numbers.

    Channel ``(i * factor + j) * C + c`` of a pixel becomes channel ``c`` of row ``i``, column ``j``
    of the block of pixels that it turns into.

    Args:
        x: ``[B, H, W, factor^2 C]``.
        factor: How many times higher the resolution becomes.

    Returns:
        ``[B, factor H, factor W, C]``.

    Raises:
        ValueError: If the channels cannot be divided so.

    Example:
        >>> depth_to_space(jnp.arange(4.0).reshape(1, 1, 1, 4), 2)[0, :, :, 0]
        Array([[0., 1.],
               [2., 3.]], dtype=float32)

    References:
        Shi et al., arXiv:1609.05158, eq. 4.
    """
    batch, height, width, depth = x.shape
    if factor < 1 or depth % factor**2:
        raise ValueError(
            f"{depth} channels cannot be spread over {factor} x {factor} pixels: their number must "
            f"be a multiple of {factor**2}"
        )
    blocks = x.reshape(batch, height, width, factor, factor, depth // factor**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, factor * height, factor * width, -1)


def icnr(factor: int, init: Any = None) -> Any:
    """Initial kernels of a convolution before :func:`depth_to_space` that make no checkerboard.

    All pixels of a block start with the same kernel: at first the image is enlarged by repeating.

    Args:
        factor: That of ``depth_to_space``.
        init: Initialiser of the kernel they share; Flax's own of convolutions if None.

    Returns:
        The initialiser.

    References:
        Aitken et al., Checkerboard artifact free sub-pixel convolution, arXiv:1707.02937, section
        3.1.
    """
    draw = nn.initializers.lecun_normal() if init is None else init

    def kernel(key: PRNGKeyArray, shape: Any, dtype: Any = jnp.float32) -> Array:
        shared = draw(key, (*shape[:-1], shape[-1] // factor**2), dtype)
        return jnp.tile(shared, factor**2)

    return kernel


def _doublings(factor: int) -> int:
    """How often a resolution is doubled."""
    count = int(math.log2(factor)) if factor > 0 else 0
    if factor < 2 or 2**count != factor:
        raise ValueError(f"factor must be 2, 4, 8 or another power of two, got {factor}")
    return count


class SRResNet(nn.Module):
    """Residual blocks at the low resolution, then convolutions whose channels become pixels.

    Attributes:
        event_shape: Shape of the images it makes, ``(H, W, C)``.
        factor: How many times higher their resolution is, a power of two.
        channels: Channels.
        num_blocks: Residual blocks of two convolutions each.
        dtype: The precision of the convolutions.

    References:
        Ledig et al., Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
        Network, arXiv:1609.04802, figure 4.
    """

    event_shape: tuple[int, ...]
    factor: int = 4
    channels: int = 64
    num_blocks: int = 16
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, source: Float[Array, "B H W C"], *, train: bool = False
    ) -> Float[Array, "B H2 W2 C2"]:
        """Enlarges images.

        Args:
            source: Images in [-1, 1], ``[B, H, W, C]``.
            train: Whether to normalise by the batch.

        Returns:
            Images ``[B, factor H, factor W, event_shape[-1]]``, float32, which may leave [-1, 1].

        Raises:
            ValueError: If ``factor`` is no power of two.
        """
        doublings = _doublings(self.factor)
        dtype: Any = jnp.dtype(self.dtype)

        def conv(width: int, size: int, name: str, **kwargs: Any) -> Conv:
            return Conv(width, (size, size), dtype=dtype, name=name, **kwargs)

        def prelu(h: Array, name: str) -> Array:
            return nn.PReLU(negative_slope_init=0.25, name=name)(h)

        first = h = prelu(conv(self.channels, 9, "first")(source.astype(dtype)), "first_prelu")
        for i in range(self.num_blocks):
            # The normalisation takes away what a bias adds.
            r = conv(self.channels, 3, f"conv_{i}_0", use_bias=False)(h)
            r = prelu(BatchNorm(None, dtype, name=f"norm_{i}_0")(r, train=train), f"prelu_{i}")
            r = conv(self.channels, 3, f"conv_{i}_1", use_bias=False)(r)
            h = h + BatchNorm(None, dtype, name=f"norm_{i}_1")(r, train=train)
        h = conv(self.channels, 3, "middle", use_bias=False)(h)
        h = first + BatchNorm(None, dtype, name="middle_norm")(h, train=train)
        for i in range(doublings):
            h = conv(4 * self.channels, 3, f"up_{i}", kernel_init=icnr(2))(h)
            h = prelu(depth_to_space(h, 2), f"up_prelu_{i}")
        return conv(self.event_shape[-1], 9, "last")(h).astype(jnp.float32)


class RRDBNet(nn.Module):
    """Residual blocks of residual dense blocks without normalisation, enlarged by repeating.

    Attributes:
        event_shape: Shape of the images it makes, ``(H, W, C)``.
        factor: How many times higher their resolution is, a power of two.
        channels: Channels of the residual ways.
        num_blocks: Blocks of three dense blocks of five convolutions each.
        growth: Channels that each convolution of a dense block adds to what the next one sees.
        residual_scale: Weight of what a block adds.
        dtype: The precision of the convolutions.

    References:
        Wang et al., ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks,
        arXiv:1809.00219, section 3.1.
    """

    event_shape: tuple[int, ...]
    factor: int = 4
    channels: int = 64
    num_blocks: int = 23
    growth: int = 32
    residual_scale: float = 0.2
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, source: Float[Array, "B H W C"], *, train: bool = False
    ) -> Float[Array, "B H2 W2 C2"]:
        """Enlarges images.

        Args:
            source: Images in [-1, 1], ``[B, H, W, C]``.
            train: Not looked at: nothing depends on it.

        Returns:
            Images ``[B, factor H, factor W, event_shape[-1]]``, float32, which may leave [-1, 1].

        Raises:
            ValueError: If ``factor`` is no power of two.
        """
        del train
        doublings = _doublings(self.factor)
        dtype: Any = jnp.dtype(self.dtype)
        # He et al.'s variance for the slope of 0.2; within blocks a tenth of that deviation, so
        # that deep networks begin close to the identity.
        he = nn.initializers.variance_scaling(2.0 / (1 + 0.2**2), "fan_in", "normal")
        small = nn.initializers.variance_scaling(0.01 * 2.0 / (1 + 0.2**2), "fan_in", "normal")

        def conv(width: int, name: str, init: Any = he) -> Conv:
            return Conv(width, (3, 3), kernel_init=init, dtype=dtype, name=name)

        first = h = conv(self.channels, "first")(source.astype(dtype))
        for i in range(self.num_blocks):
            block = h
            for j in range(3):
                seen = h
                for k in range(4):
                    new = nn.leaky_relu(conv(self.growth, f"dense_{i}_{j}_{k}", small)(seen), 0.2)
                    seen = jnp.concatenate([seen, new], axis=-1)
                h = h + self.residual_scale * conv(self.channels, f"dense_{i}_{j}_4", small)(seen)
            h = block + self.residual_scale * h
        h = first + conv(self.channels, "middle")(h)
        for i in range(doublings):
            larger = h.repeat(2, axis=1).repeat(2, axis=2)
            h = nn.leaky_relu(conv(self.channels, f"up_{i}")(larger), 0.2)
        h = nn.leaky_relu(conv(self.channels, "high")(h), 0.2)
        return conv(self.event_shape[-1], "last")(h).astype(jnp.float32)
