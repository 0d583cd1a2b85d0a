"""Generator of the original StyleGAN: adaptive instance normalisation."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.convolution import conv_transpose
from genjax.nets.dcgan import num_doublings
from genjax.nets.equalized import EqualizedConv, EqualizedDense
from genjax.nets.resampling import resample, unit
from genjax.nets.styles import NOISE, StyleGenerator, channels_at

TAPS = (1, 2, 1)
"""The filter after each doubling."""


def adaptive_instance_norm(
    x: Float[Array, "B H W C"], scale: Float[Array, "B C"], shift: Float[Array, "B C"]
) -> Float[Array, "B H W C"]:
    """Normalises each channel of each image over its pixels, then scales and shifts it.

    Args:
        x: Images, ``[B, H, W, C]``.
        scale: What is added to a scale of 1, ``[B, C]``.
        shift: What is added afterwards, ``[B, C]``.

    Returns:
        Images, ``[B, H, W, C]``; statistics are float32.

    References:
        Huang and Belongie, arXiv:1703.06868; Karras et al., arXiv:1812.04948, eq. 1.
    """
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=(1, 2), keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=(1, 2), keepdims=True)
    y = centred * jax.lax.rsqrt(variance + 1e-8)
    return (y * (1.0 + scale[:, None, None]) + shift[:, None, None]).astype(x.dtype)


class StyledNorm(nn.Module):
    """Noise with a weight for each channel, bias, leaky ReLU, then the style."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], w: Float[Array, "B S"]
    ) -> Float[Array, "B H W C"]:
        """Maps images with one style vector for each."""
        channels, zeros = x.shape[-1], nn.initializers.zeros_init()
        strength = self.param("noise_strength", zeros, (channels,), jnp.float32)
        if self.has_rng(NOISE):
            noise = jax.random.normal(self.make_rng(NOISE), (*x.shape[:-1], 1))
            x = x + (strength * noise).astype(x.dtype)
        bias = self.param("bias", zeros, (channels,), jnp.float32)
        h = nn.leaky_relu(x + bias.astype(x.dtype), 0.2)
        scale, shift = jnp.split(EqualizedDense(2 * channels, name="style")(w), 2, axis=-1)
        return adaptive_instance_norm(h, scale, shift)


class DoublingConv(nn.Module):
    """Repeats pixels twice along each axis, then convolves: one transposed convolution.

    Attributes:
        features: Number of output channels.
        dtype: The precision of the convolution.
    """

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H2 W2 O"]:
        """Maps images ``[B, H, W, I]`` to ``[B, 2 H, 2 W, features]``."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        kernel = kernel * math.sqrt(2.0 / math.prod(shape[:-1]))
        # A repeated pixel meets two taps along each axis, whose sum is one tap of four.
        for axis in (0, 1):
            pads = [[(0, 0)] * 4 for _ in range(2)]
            pads[0][axis], pads[1][axis] = (1, 0), (0, 1)
            kernel = jnp.pad(kernel, pads[0]) + jnp.pad(kernel, pads[1])
        kernel = kernel.astype(self.dtype)
        return conv_transpose(x.astype(self.dtype), kernel, (2, 2), ((2, 2), (2, 2)))


class AdaINSynthesis(nn.Module):
    """Styles to images: a constant, and convolutions whose outputs are normalised and styled.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``.
        base_channels: See :func:`~genjax.nets.styles.channels_at`.
        max_channels: See :func:`~genjax.nets.styles.channels_at`.
        dtype: The precision of the convolutions.
    """

    event_shape: tuple[int, ...]
    base_channels: int
    max_channels: int
    dtype: Any

    @nn.compact
    def __call__(self, styles: Float[Array, "B L S"]) -> Float[Array, "B H W C"]:
        """Images of one style vector for each layer, float32."""
        doublings = num_doublings(self.event_shape)
        side = self.event_shape[0] >> doublings
        width = channels_at(side, self.base_channels, self.max_channels)
        ones = nn.initializers.ones_init()
        constant = self.param("constant", ones, (side, side, width), jnp.float32)
        h = jnp.broadcast_to(constant.astype(self.dtype), (styles.shape[0], *constant.shape))
        for i in range(doublings + 1):
            width = channels_at(side << i, self.base_channels, self.max_channels)
            if i:
                h = DoublingConv(width, self.dtype, name=f"double_{i}")(h)
                h = resample(h, unit(TAPS), padding=(1, 1))
            h = StyledNorm(name=f"norm_{i}_0")(h, styles[:, 2 * i])
            plain = EqualizedConv(
                width, use_bias=False, gain=math.sqrt(2.0), dtype=self.dtype, name=f"conv_{i}"
            )
            h = StyledNorm(name=f"norm_{i}_1")(plain(h), styles[:, 2 * i + 1])
        to_image = EqualizedConv(self.event_shape[-1], 1, dtype=self.dtype, name="image")
        return to_image(h).astype(jnp.float32)


class StyleGANGenerator(StyleGenerator):
    """Latents to styles to images, as the first StyleGAN did it; without progressive growing.

    The mean of what it truncates has a decay of 0.995, and published samples truncate the first 8
    layers to 0.7.

    References:
        Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks,
        arXiv:1812.04948, figure 1, and NVlabs/stylegan.
    """

    def make_synthesis(self) -> nn.Module:
        """The network from styles to images."""
        return AdaINSynthesis(
            event_shape=self.event_shape,
            base_channels=self.base_channels,
            max_channels=self.max_channels,
            dtype=jnp.dtype(self.dtype),
        )
