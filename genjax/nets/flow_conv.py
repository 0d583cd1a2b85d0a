"""Convolutional networks inside flows of images. Their last layers start at zero.

All map ``[B, H, W, C]`` to ``[B, H, W, num_outputs]`` and take a context ``[B, K]`` or, one vector
a pixel, ``[B, H, W, K]``. Trunks may be bfloat16; first and last layers are float32, as what they
feed has to be inverted.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.convolution import Conv
from genjax.nets.dropout import Dropout
from genjax.nets.normalization import first_deviation

_ZEROS = nn.initializers.zeros_init()


def join_context(x: Float[Array, "B H W C"], context: Array | None) -> Float[Array, "B H W D"]:
    """Appends a context to the channels of images, one vector at all pixels if it has no pixels.

    Args:
        x: Images, ``[B, H, W, C]``.
        context: One vector an image, ``[B, K]``, one a pixel, ``[B, H, W, K]``, or None.

    Returns:
        Images with the context in further channels, ``[B, H, W, C + K]``.

    Raises:
        ValueError: If the context fits neither.
    """
    if context is None:
        return x
    if context.ndim == 2:
        context = context[:, None, None, :]
    if context.ndim != 4 or context.shape[1:3] not in ((1, 1), x.shape[1:3]):
        raise ValueError(f"a context of shape {context.shape} does not fit images {x.shape}")
    context = jnp.broadcast_to(context, (*x.shape[:3], context.shape[-1]))
    return jnp.concatenate([x, context.astype(x.dtype)], axis=-1)


class _ChannelNorm(nn.Module):
    """Scale and shift of each channel, set at first so that the data has mean 0, deviation 1."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        axes = tuple(range(x.ndim - 1))
        data = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = self.param("mean", lambda _: jnp.mean(data, axis=axes))

        def start(_: Array) -> Array:
            std, varies = first_deviation(data)
            # Of a channel that is nearly the same everywhere in the first batch little is to be
            # made.
            return jnp.where(varies, 1.0 / (std + 0.01), 1.0)

        scale = self.param("scale", start)
        return ((data - mean) * scale).astype(x.dtype)


class ConvNet(nn.Module):
    """The network of Glow: a 3x3, a 1x1 and a 3x3 convolution with data-dependent normalisation.

    Attributes:
        num_outputs: Channels of the output.
        hidden_size: Channels inside; 512 in the paper.
        dtype: The precision of the trunk; that of the input if None.

    References:
        Kingma and Dhariwal, Glow, arXiv:1807.03039, section 3.3.
    """

    num_outputs: int
    hidden_size: int = 512
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], context: Float[Array, "B *place K"] | None = None
    ) -> Float[Array, "B H W D"]:
        """Maps images to the parameters of a coupling."""
        # The last layer is computed in full precision, whatever the trunk is.
        wide = jnp.promote_types(x.dtype, jnp.float32)
        h = join_context(x, context)
        h = Conv(self.hidden_size, (3, 3), use_bias=False, name="conv_in")(h)
        h = nn.relu(_ChannelNorm(name="norm_in")(h))
        h = Conv(
            self.hidden_size,
            (1, 1),
            use_bias=False,
            dtype=self.dtype,
            name="conv_mid",
        )(h)
        h = nn.relu(_ChannelNorm(name="norm_mid")(h)).astype(wide)
        return Conv(self.num_outputs, (3, 3), kernel_init=_ZEROS, name="conv_out")(h)


class ResidualConvNet(nn.Module):
    """Residual network of 3x3 convolutions.

    Normalised over the channels of each pixel, in place of the batch normalisation of the papers:
    a row's density must not depend on its batch.

    Attributes:
        num_outputs: Channels of the output.
        hidden_size: Channels inside.
        num_blocks: Number of residual blocks of two convolutions.
        dropout_rate: Share of activations dropped in the blocks, in [0, 1); acts where an rng
            ``dropout`` is given.
        dtype: The precision of the trunk; that of the input if None.

    References:
        Dinh et al., Real NVP, arXiv:1605.08803, section 4.1; Durkan et al., arXiv:1906.04032,
        appendix B.
    """

    num_outputs: int
    hidden_size: int = 32
    num_blocks: int = 4
    dropout_rate: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], context: Float[Array, "B *place K"] | None = None
    ) -> Float[Array, "B H W D"]:
        """Maps images to the parameters of a coupling."""
        h = Conv(self.hidden_size, (3, 3), name="conv_in")(join_context(x, context))
        for i in range(self.num_blocks):
            r = nn.relu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{i}_0")(h))
            r = Conv(self.hidden_size, (3, 3), dtype=self.dtype, name=f"conv_{i}_0")(r)
            r = nn.relu(nn.LayerNorm(dtype=self.dtype, name=f"norm_{i}_1")(r))
            r = Dropout(self.dropout_rate)(r, deterministic=not self.has_rng("dropout"))
            h += Conv(self.hidden_size, (3, 3), dtype=self.dtype, name=f"conv_{i}_1")(r)
        h = nn.relu(nn.LayerNorm(name="norm_out")(h))
        return Conv(self.num_outputs, (3, 3), kernel_init=_ZEROS, name="conv_out")(h)


# elu(x) and elu(-x) side by side: gradients pass on both sides of 0, for twice the channels.
def _concat_elu(x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
    return jnp.concatenate([nn.elu(x), nn.elu(-x)], axis=-1)


class GatedConvNet(nn.Module):
    r"""Gated residual network: :math:`h + a \sigma(b)` from a 3x3 and a 1x1 convolution.

    Attributes:
        num_outputs: Channels of the output.
        hidden_size: Channels inside.
        num_blocks: Number of gated blocks.
        dropout_rate: Share of activations dropped in the blocks, in [0, 1); acts where an rng
            ``dropout`` is given.
        dtype: The precision of the trunk; that of the input if None.

    References:
        The gate: Salimans et al., PixelCNN++, arXiv:1701.05517; in flows Ho et al., Flow++,
        arXiv:1902.00275, section 3.3.
    """

    num_outputs: int
    hidden_size: int = 32
    num_blocks: int = 3
    dropout_rate: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], context: Float[Array, "B *place K"] | None = None
    ) -> Float[Array, "B H W D"]:
        """Maps images to the parameters of a coupling."""
        size = self.hidden_size
        h = Conv(size, (3, 3), name="conv_in")(join_context(x, context))
        for i in range(self.num_blocks):
            r = Conv(size, (3, 3), dtype=self.dtype, name=f"conv_{i}")(_concat_elu(h))
            r = Dropout(self.dropout_rate)(
                _concat_elu(r), deterministic=not self.has_rng("dropout")
            )
            r = Conv(2 * size, (1, 1), dtype=self.dtype, name=f"gate_{i}")(r)
            h = nn.LayerNorm(name=f"norm_{i}")(h + r[..., :size] * jax.nn.sigmoid(r[..., size:]))
        return Conv(self.num_outputs, (3, 3), kernel_init=_ZEROS, name="conv_out")(_concat_elu(h))
