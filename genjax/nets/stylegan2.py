"""Generator of StyleGAN2."""

import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.convolution import conv, conv_transpose
from genjax.nets.dcgan import num_doublings
from genjax.nets.equalized import EqualizedDense, scaled_leaky_relu
from genjax.nets.resampling import resample, unit, upsample
from genjax.nets.styles import NOISE, StyleGenerator, channels_at

TAPS = (1, 3, 3, 1)
"""The filter that images are resampled with."""


def modulated_conv(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "k k I O"],
    style: Float[Array, "B I"],
    *,
    conv_fn: Callable[[Array, Array], Array],
    demodulate: bool = True,
    form: Literal["activations", "weights"] = "activations",
) -> Float[Array, "B H2 W2 O"]:
    """A convolution whose kernel is scaled by input channel, and normalised by output channel.

    Both forms compute the same. Scaling the activations before and after one convolution of all
    rows is several times faster than a kernel for each row, but for a very small batch.

    Args:
        x: Images, ``[B, H, W, I]``.
        kernel: Kernel, ``[k, k, I, O]``.
        style: Scale of each input channel, ``[B, I]``.
        conv_fn: The convolution, ``(images, kernel) -> images``, linear in both.
        demodulate: Whether each row's kernel is divided by its norm over all but the outputs: for
            inputs of variance 1 outputs then have that, too, whatever the style.
        form: Whether ``"activations"`` are scaled, or each row's ``"weights"``.

    Returns:
        Images, ``[B, H2, W2, O]``, of the type of ``x``.

    Raises:
        ValueError: If there is no such form.

    References:
        Karras et al., arXiv:1912.04958, eq. 1 and 3.
    """
    if form not in ("activations", "weights"):
        raise ValueError(f"form must be 'activations' or 'weights', got {form!r}")
    if form == "weights":
        scaled = kernel * style[:, None, None, :, None]
        if demodulate:
            squares = jnp.sum(jnp.square(scaled), axis=(1, 2, 3), keepdims=True)
            scaled = scaled * jax.lax.rsqrt(squares + 1e-8)
        each = jax.vmap(lambda row, own: conv_fn(row[None], own)[0])
        return each(x, scaled.astype(x.dtype))
    y = conv_fn(x * style[:, None, None].astype(x.dtype), kernel.astype(x.dtype))
    if demodulate:
        # The norm of a scaled kernel, of which no kernel is made.
        squares = jnp.square(style) @ jnp.sum(jnp.square(kernel), axis=(0, 1))
        y = y * jax.lax.rsqrt(squares + 1e-8)[:, None, None].astype(y.dtype)
    return y


def _same(x: Array, kernel: Array) -> Array:
    """Keeps the size."""
    return conv(x, kernel, (1, 1), "SAME")


def _doubled(x: Array, kernel: Array) -> Array:
    """Doubles the size and one pixel more, which the filter takes away."""
    return conv_transpose(x, kernel, (2, 2), ((2, 2), (2, 2)))


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU.

    Attributes:
        features: Number of output channels.
        double: Whether to double the image.
        form: See :func:`modulated_conv`.
        dtype: The precision of the convolution.
    """

    features: int
    double: bool
    form: Literal["activations", "weights"]
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W I"], w: Float[Array, "B S"]
    ) -> Float[Array, "B H2 W2 O"]:
        """Maps images with one style vector for each."""
        channels = x.shape[-1]
        style = EqualizedDense(channels, bias_init=1.0, name="style")(w)
        shape = (3, 3, channels, self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        kernel = kernel / math.sqrt(9 * channels)
        conv_fn = _doubled if self.double else _same
        y = modulated_conv(x, kernel, style, conv_fn=conv_fn, form=self.form)
        if self.double:
            # The filter commutes with the convolution, which is a quarter of the work before it.
            y = resample(y, unit(TAPS), padding=(1, 1), gain=2.0)
        strength = self.param("noise_strength", nn.initializers.zeros_init(), (), jnp.float32)
        if self.has_rng(NOISE):
            noise = jax.random.normal(self.make_rng(NOISE), (*y.shape[:-1], 1))
            y = y + (strength * noise).astype(y.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return scaled_leaky_relu(y + bias.astype(y.dtype))


class ToImage(nn.Module):
    """Modulated convolution of one pixel, not demodulated.

    Attributes:
        features: Channels of the image.
        form: See :func:`modulated_conv`.
    """

    features: int
    form: Literal["activations", "weights"]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"], w: Float[Array, "B S"]) -> Array:
        """Maps images with one style vector for each to ``[B, H, W, features]``, float32."""
        channels = x.shape[-1]
        style = EqualizedDense(channels, bias_init=1.0, name="style")(w) / math.sqrt(channels)
        shape = (1, 1, channels, self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        y = modulated_conv(x, kernel, style, conv_fn=_same, demodulate=False, form=self.form)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return y.astype(jnp.float32) + bias


class Synthesis(nn.Module):
    """Styles to images: a learned constant, styled convolutions, and images added up.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``.
        base_channels: See :func:`~genjax.nets.styles.channels_at`.
        max_channels: See :func:`~genjax.nets.styles.channels_at`.
        form: See :func:`modulated_conv`.
        dtype: The precision of the convolutions.
    """

    event_shape: tuple[int, ...]
    base_channels: int
    max_channels: int
    form: Literal["activations", "weights"]
    dtype: Any

    @nn.compact
    def __call__(self, styles: Float[Array, "B L S"]) -> Float[Array, "B H W C"]:
        """Images of one style vector for each layer, float32."""
        doublings = num_doublings(self.event_shape)
        side = self.event_shape[0] >> doublings
        width = channels_at(side, self.base_channels, self.max_channels)
        constant = self.param(
            "constant", nn.initializers.normal(1.0), (side, side, width), jnp.float32
        )
        h = jnp.broadcast_to(constant.astype(self.dtype), (styles.shape[0], *constant.shape))
        image: Array | None = None
        for i in range(doublings + 1):
            width = channels_at(side << i, self.base_channels, self.max_channels)
            if i:
                layer = StyledConv(width, True, self.form, self.dtype, name=f"double_{i}")
                h = layer(h, styles[:, 2 * i - 1])
            layer = StyledConv(width, False, self.form, self.dtype, name=f"conv_{i}")
            h = layer(h, styles[:, 2 * i])
            # With the style of the next layer, where there is one.
            to_image = ToImage(self.event_shape[-1], self.form, name=f"image_{i}")
            part = to_image(h, styles[:, 2 * i + 1])
            image = part if image is None else upsample(image, TAPS) + part
        assert image is not None
        return image


class StyleGAN2Generator(StyleGenerator):
    """Latents to styles to images, as StyleGAN2 does it.

    Attributes:
        form: How convolutions are modulated: see :func:`modulated_conv`.

    References:
        Karras et al., Analyzing and Improving the Image Quality of StyleGAN, arXiv:1912.04958:
        configuration F, and NVlabs/stylegan2-ada-pytorch.
    """

    form: Literal["activations", "weights"] = "activations"

    def make_synthesis(self) -> nn.Module:
        """The network from styles to images."""
        return Synthesis(
            event_shape=self.event_shape,
            base_channels=self.base_channels,
            max_channels=self.max_channels,
            form=self.form,
            dtype=jnp.dtype(self.dtype),
        )
