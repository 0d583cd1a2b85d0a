"""Layers of weights of norm 1, whose scales and biases start from data."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.convolution import conv, conv_transpose


def _normalized(kernel: Array) -> Array:
    """A kernel ``[*taps, I, O]`` whose weights of each output have norm 1."""
    axes = tuple(range(kernel.ndim - 1))
    return kernel / jnp.sqrt(jnp.sum(jnp.square(kernel), axis=axes) + 1e-12)


def _from_data(module: nn.Module, y: Array, init_scale: float) -> tuple[Array, Array]:
    """Scale and bias of each channel, that give first outputs mean 0 and a standard deviation."""
    y, axes = y.astype(jnp.float32), tuple(range(y.ndim - 1))

    # Flax calls these once, when the parameters are made.
    def scale_of(_: Array) -> Array:
        std = jnp.std(y, axis=axes)
        return jnp.where(std > 1e-4, init_scale / jnp.maximum(std, 1e-4), 1.0)

    scale = module.param("scale", scale_of)
    return scale, module.param("bias", lambda _: -scale * jnp.mean(y, axis=axes))


class WeightNormConv(nn.Module):
    """A convolution of kernels of norm 1, with a scale and a bias of each channel set by data.

    On the rows that it is initialised with, outputs have mean 0 and standard deviation
    ``init_scale`` in each channel; a channel that does not vary among them starts with scale 1.

    Attributes:
        features: Output channels.
        kernel_size: Taps along height and width.
        padding: (low, high) of height and width, or ``"VALID"``.
        strides: Strides of height and width, or the factors by which they grow.
        transposed: Whether images grow.
        init_scale: Standard deviation of the outputs at first.
        dtype: The precision of the product.

    References:
        Salimans and Kingma, Weight Normalization, arXiv:1602.07868, sections 2 and 3.
    """

    features: int
    kernel_size: Sequence[int]
    padding: str | Sequence[tuple[int, int]] = ((0, 0), (0, 0))
    strides: Sequence[int] = (1, 1)
    transposed: bool = False
    init_scale: float = 1.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H2 W2 O"]:
        """Maps ``[B, H, W, I]`` to ``[B, H', W', features]``."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(0.05), shape)
        x, weights = nn.dtypes.promote_dtype(x, _normalized(kernel), dtype=self.dtype)
        function = conv_transpose if self.transposed else conv
        y = function(x, weights, self.strides, self.padding)

        scale, bias = _from_data(self, y, self.init_scale)
        return y * scale.astype(y.dtype) + bias.astype(y.dtype)


class WeightNormDense(nn.Module):
    """A dense layer of weights of norm 1, with a scale and a bias of each output set by data.

    On the rows that it is initialised with, outputs have mean 0 and standard deviation
    ``init_scale``; an output that does not vary among them starts with scale 1.

    Attributes:
        features: Number of outputs.
        init_scale: Standard deviation of the outputs at first.
        kernel_std: Standard deviation of the kernel at first: it acts on how fast steps of one size
            turn the weights.
        learn_scale: Whether the scale is learned, or stays what the first rows made it.

    References:
        Salimans and Kingma, Weight Normalization, arXiv:1602.07868, sections 2 and 3.
    """

    features: int
    init_scale: float = 1.0
    kernel_std: float = 0.05
    learn_scale: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B I"]) -> Float[Array, "B O"]:
        """Maps ``[B, I]`` to ``[B, features]``."""
        shape = (x.shape[-1], self.features)
        y = x @ _normalized(self.param("kernel", nn.initializers.normal(self.kernel_std), shape))
        scale, bias = _from_data(self, y, self.init_scale)
        if not self.learn_scale:
            scale = jax.lax.stop_gradient(scale)
        return y * scale + bias
