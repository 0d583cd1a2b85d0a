"""Layers with equalised learning rates: weights of unit variance, scaled when they are used.

Adam moves every weight about equally far. With weights of unit variance that is equally far in
proportion, whatever the width of a layer; the scale that keeps activations at unit variance is a
constant of the layer.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.convolution import conv
from genjax.nets.resampling import resample, unit


def scaled_leaky_relu(x: Array) -> Array:
    """Leaky ReLU of slope 0.2, times the root of 2: about the variance that came in."""
    return nn.leaky_relu(x, 0.2) * jnp.asarray(math.sqrt(2.0), x.dtype)


def normalized(x: Float[Array, "B F"]) -> Float[Array, "B F"]:
    """Rows divided by the root of their mean square."""
    return x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


class EqualizedDense(nn.Module):
    """A dense layer with an equalised learning rate.

    Attributes:
        features: Number of outputs.
        multiplier: Factor of the learning rate, weights and bias: these start larger by its
            inverse and are scaled down by it when they are used.
        bias_init: Value that biases start from.
    """

    features: int
    multiplier: float = 1.0
    bias_init: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B O"]:
        """Maps rows, ``[B, I]`` to ``[B, features]``, float32.

        References:
            Karras et al., arXiv:1710.10196, section 4.1; the multiplier: arXiv:1812.04948,
            appendix C.
        """
        start = nn.initializers.normal(1.0 / self.multiplier)
        kernel = self.param("kernel", start, (x.shape[-1], self.features), jnp.float32)
        constant = nn.initializers.constant(self.bias_init / self.multiplier)
        bias = self.param("bias", constant, (self.features,), jnp.float32)
        scale = self.multiplier / math.sqrt(x.shape[-1])
        return x.astype(jnp.float32) @ (scale * kernel) + self.multiplier * bias


class EqualizedConv(nn.Module):
    """A convolution with an equalised learning rate, which may halve the image through a filter.

    Attributes:
        features: Number of output channels.
        size: Side of the kernel, odd.
        halve: Whether to filter the image and halve its sides.
        taps: The filter: see :mod:`genjax.nets.resampling`.
        use_bias: Whether to add a bias, which starts from zero.
        gain: Standard deviation of an output where inputs have that of 1.
        dtype: The precision of the convolution.
    """

    features: int
    size: int = 3
    halve: bool = False
    taps: tuple[int, ...] = (1, 3, 3, 1)
    use_bias: bool = True
    gain: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H2 W2 O"]:
        """Maps images, ``[B, H, W, I]`` to ``[B, H, W, features]`` or half the sides."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        kernel = (kernel * (self.gain / math.sqrt(math.prod(shape[:-1])))).astype(self.dtype)
        x = x.astype(self.dtype)
        strides, pad = (1, 1), self.size // 2
        if self.halve:
            # As much more as the filter takes away.
            k = len(self.taps)
            around = ((k - 1) // 2 + pad, (k - 2) // 2 + pad)
            # A kernel of one pixel sees every second only: the others need no filtering.
            thin = 2 if self.size == 1 else 1
            x = resample(x, unit(self.taps), padding=around, down=thin)
            strides, pad = (2 // thin, 2 // thin), 0
        y = conv(x, kernel, strides, ((pad, pad), (pad, pad)))
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return y + bias.astype(self.dtype)
