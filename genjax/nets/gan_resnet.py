"""Residual generator and critic of SNGAN and WGAN-GP."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.conditioning import (
    BatchNorm,
    CriticHead,
    LabelledInput,
    LabelledLatent,
    apply_layer,
)
from genjax.nets.convolution import Conv
from genjax.nets.dcgan import num_doublings

_XAVIER = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
# Residual convolutions have a gain of sqrt(2).
_XAVIER_RELU = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")


def _upsample(x: Array) -> Array:
    """Doubles height and width by repeating pixels."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def _downsample(x: Array) -> Array:
    """Halves height and width by averaging."""
    return nn.avg_pool(x, (2, 2), (2, 2))


class ResNetGenerator(nn.Module):
    """Latents to images by residual blocks, each of which doubles the resolution.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``, square, with a side of 4 or 7 times a power
            of two.
        channels: Channels of every block: 256 in SNGAN, 128 in WGAN-GP.
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: ``"batch_norm"`` for gains and biases of each class; else see
            :class:`~genjax.nets.conditioning.LabelledLatent`.
        dtype: The precision between first layer and tanh.

    References:
        Miyato et al., arXiv:1802.05957, table 4; Gulrajani et al., arXiv:1704.00028, appendix F.
    """

    event_shape: tuple[int, ...]
    channels: int = 256
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding", "batch_norm"] = "batch_norm"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self,
        latent: Float[Array, "B Z"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "B H W C"]:
        """Generates images in [-1, 1], float32.

        Args:
            latent: Draws of the latent distribution, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Whether to normalise by the batch, else by the running statistics.

        Returns:
            Images, ``[B, H, W, C]``.

        Raises:
            ValueError: If labels or the image size do not fit.
        """
        doublings = num_doublings(self.event_shape)
        side = self.event_shape[0] >> doublings
        dtype: Any = jnp.dtype(self.dtype)
        per_class = self.num_classes if self.conditioning == "batch_norm" else None
        width = self.channels

        def norm_relu(h: Array, name: str) -> Array:
            return nn.relu(BatchNorm(per_class, dtype, name=name)(h, label, train=train))

        def conv3(name: str) -> Conv:
            return Conv(width, (3, 3), kernel_init=_XAVIER_RELU, dtype=dtype, name=name)

        h = LabelledLatent(self.num_classes, self.conditioning, name="condition")(latent, label)
        h = nn.Dense(side * side * width, kernel_init=_XAVIER, dtype=dtype, name="dense")(h)
        h = h.reshape(-1, side, side, width)
        for i in range(doublings):
            r = _upsample(norm_relu(h, f"block_{i}_norm_0"))
            r = conv3(f"block_{i}_conv_0")(r)
            r = conv3(f"block_{i}_conv_1")(norm_relu(r, f"block_{i}_norm_1"))
            # A 1x1 convolution and repeating pixels commute; this order costs a quarter.
            shortcut = Conv(
                width, (1, 1), kernel_init=_XAVIER, dtype=dtype, name=f"block_{i}_shortcut"
            )
            h = _upsample(shortcut(h)) + r
        last = Conv(self.event_shape[-1], (3, 3), kernel_init=_XAVIER, dtype=dtype, name="conv_out")
        return jnp.tanh(last(norm_relu(h, "norm_out")).astype(jnp.float32))


class ResNetCritic(nn.Module):
    """Images to a score by residual blocks; no normalisation of activations by default.

    Blocks halve the resolution down to 8x8 (7x7), and two more keep it.

    Attributes:
        channels: Channels of every block; 128 in both papers.
        norm: ``"layer"`` or ``"none"``.
        pool: How the positions of the last block are joined: ``"sum"`` in SNGAN, ``"mean"`` in
            WGAN-GP.
        spectral_norm: Whether to normalise the weights of every layer.
        num_outputs: Length of the output (features of an MMD GAN), or None for one number a row.
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: How labels enter: see :class:`~genjax.nets.conditioning.LabelledInput` and,
            for ``"projection"``, :class:`~genjax.nets.conditioning.CriticHead`.
        dtype: The precision of the convolutions.

    References:
        Miyato et al., arXiv:1802.05957, table 4; Gulrajani et al., arXiv:1704.00028, appendix F.
    """

    channels: int = 128
    norm: Literal["layer", "none"] = "none"
    pool: Literal["sum", "mean"] = "sum"
    spectral_norm: bool = False
    num_outputs: int | None = None
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding", "projection"] = "projection"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Array:
        """Scores images.

        Args:
            x: Images in [-1, 1], ``[B, H, W, C]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Whether spectral normalisation moves its power iterations on.

        Returns:
            Outputs, ``[B]``, or ``[B, num_outputs]``, float32.

        Raises:
            ValueError: If labels or the image size do not fit.
        """
        num_doublings(x.shape[1:])  # refuses sizes that the generator could not make
        dtype: Any = jnp.dtype(self.dtype)
        width = self.channels

        def conv(h: Array, taps: int, name: str) -> Array:
            init = _XAVIER_RELU if taps == 3 else _XAVIER
            layer = Conv(width, (taps, taps), kernel_init=init, dtype=dtype, name=name)
            return apply_layer(layer, h, spectral_norm=self.spectral_norm, train=train, name=name)

        def norm_relu(h: Array, name: str) -> Array:
            if self.norm == "layer":
                h = nn.LayerNorm(reduction_axes=(1, 2, 3), dtype=dtype, name=name)(h)
            return nn.relu(h)

        h = LabelledInput(self.num_classes, self.conditioning, name="condition")(x, label)
        # The first block sees the image itself, before any ReLU.
        r = conv(nn.relu(conv(h, 3, "block_0_conv_0")), 3, "block_0_conv_1")
        h = conv(_downsample(h), 1, "block_0_shortcut") + _downsample(r)
        # Blocks halve until a side is 8 (7) or less, then two keep the resolution.
        kept, i = 0, 1
        while kept < 2:
            halves = h.shape[1] > 8
            r = conv(norm_relu(h, f"block_{i}_norm_0"), 3, f"block_{i}_conv_0")
            r = conv(norm_relu(r, f"block_{i}_norm_1"), 3, f"block_{i}_conv_1")
            if halves:
                # A 1x1 convolution and an average commute; this order costs a quarter.
                h = conv(_downsample(h), 1, f"block_{i}_shortcut") + _downsample(r)
            else:
                h, kept = h + r, kept + 1
            i += 1
        h = norm_relu(h, "norm_out").astype(jnp.float32)
        pooled = jnp.sum(h, axis=(1, 2)) if self.pool == "sum" else jnp.mean(h, axis=(1, 2))
        head = CriticHead(
            self.num_outputs,
            self.num_classes,
            self.conditioning,
            self.spectral_norm,
            _XAVIER,
            name="head",
        )
        return head(pooled, pooled, label, train=train)
