"""Deep convolutional generator and critic (DCGAN)."""

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
from genjax.nets.convolution import Conv, ConvTranspose
from genjax.nets.minibatch import MinibatchDiscrimination

# Radford et al.: all weights start as normals of deviation 0.02.
_NORMAL = nn.initializers.normal(0.02)


def num_doublings(event_shape: tuple[int, ...]) -> int:
    """How often a side of 4 (or 7) is doubled to make images of this shape.

    Args:
        event_shape: Shape of the images, ``(H, W, C)``.

    Returns:
        The number of doublings.

    Raises:
        ValueError: If the image is not square with a side of 4 or 7 times a power of two.

    Example:
        >>> num_doublings((32, 32, 3)), num_doublings((28, 28, 1))
        (3, 2)
    """
    if len(event_shape) != 3 or event_shape[0] != event_shape[1]:
        raise ValueError(f"expected square images (H, W, C), got shape {event_shape}")
    side, count = event_shape[0], 0
    while side % 2 == 0 and side > 4:
        side, count = side // 2, count + 1
    if side not in (4, 7) or not count:
        raise ValueError(
            f"expected a side of 4 * 2^n or 7 * 2^n, such as 8, 28, 32 or 64, got {event_shape[0]}"
        )
    return count


class DCGANGenerator(nn.Module):
    """Latents to images by transposed convolutions.

    A dense layer to 4x4 (7x7), then for each doubling a transposed convolution (4x4, stride 2),
    batch normalisation and ReLU, then a 3x3 convolution and tanh. With the defaults and a latent of
    128, 3,812,355 parameters for 32x32x3.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``, square, with a side of 4 or 7 times a power
            of two.
        channels: Channels at the lowest resolution, halved at each doubling.
        min_channels: Halving stops here.
        kernel_size: Taps of the transposed convolutions along height and width.
        num_doublings: How often the side is doubled; None for from 4 (or 7). From a given number,
            sides are halves rounded up, and an image too large by a row and a column loses them: 4,
            7, 14, 28.
        last_layer: ``"conv"``, a 3x3 convolution at full size (StudioGAN), or
            ``"transposed_conv"``, which doubles the size once more (Radford et al., figure 1).
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: ``"batch_norm"`` for gains and biases of each class; else see
            :class:`~genjax.nets.conditioning.LabelledLatent`.
        dtype: The precision between first layer and tanh.

    References:
        Radford et al., arXiv:1511.06434, figure 1; the widths are those of
        POSTECH-CVLab/PyTorch-StudioGAN's deep_conv.
    """

    event_shape: tuple[int, ...]
    channels: int = 512
    min_channels: int = 64
    kernel_size: int = 4
    num_doublings: int | None = None
    last_layer: Literal["conv", "transposed_conv"] = "conv"
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding", "batch_norm"] = "concatenation"
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
        doublings = self.num_doublings or num_doublings(self.event_shape)
        sides = [-(-self.event_shape[0] // 2**i) for i in reversed(range(doublings + 1))]
        side = sides[0]
        dtype = jnp.dtype(self.dtype)
        per_class = self.num_classes if self.conditioning == "batch_norm" else None
        h = LabelledLatent(self.num_classes, self.conditioning, name="condition")(latent, label)
        h = nn.Dense(side * side * self.channels, kernel_init=_NORMAL, dtype=dtype, name="dense")(h)
        h = h.reshape(-1, side, side, self.channels)
        transposed = self.last_layer == "transposed_conv"
        # A transposed last layer makes the last doubling itself.
        for i in range(doublings - transposed):
            width = max(self.channels >> (i + 1), self.min_channels)
            taps = (self.kernel_size, self.kernel_size)
            h = ConvTranspose(
                width, taps, (2, 2), kernel_init=_NORMAL, dtype=dtype, name=f"conv_{i}"
            )(h)[:, : sides[i + 1], : sides[i + 1]]
            h = nn.relu(BatchNorm(per_class, dtype, name=f"norm_{i}")(h, label, train=train))
        kwargs: Any = dict(kernel_init=_NORMAL, dtype=dtype, name="conv_out")
        channels = self.event_shape[-1]
        if transposed:
            taps = (self.kernel_size, self.kernel_size)
            h = ConvTranspose(channels, taps, (2, 2), **kwargs)(h)[:, : sides[-1], : sides[-1]]
        else:
            h = Conv(channels, (3, 3), **kwargs)(h)
        return jnp.tanh(h.astype(jnp.float32))


class DCGANCritic(nn.Module):
    """Images to a score by strided convolutions (stride 2) with LeakyReLU of slope 0.2.

    Attributes:
        channels: Channels at the lowest resolution, halved at each higher one.
        min_channels: Halving stops here.
        kernel_size: Taps of the convolutions along height and width.
        num_halvings: How often the side is halved, rounded up; None for down to 4 (or 7).
        num_minibatch_kernels: Kernels of minibatch discrimination before the last layer
            (:class:`~genjax.nets.minibatch.MinibatchDiscrimination`); 0 for none.
        norm: ``"batch"``, in all layers but the first and the last; ``"layer"``, which a gradient
            penalty allows; or ``"none"``.
        spectral_norm: Whether to normalise the weights of every layer.
        num_outputs: Length of the output (features of an MMD GAN), or None for one number a row.
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: How labels enter: see :class:`~genjax.nets.conditioning.LabelledInput` and,
            for ``"projection"``, :class:`~genjax.nets.conditioning.CriticHead`.
        dtype: The precision of the convolutions.

    References:
        Radford et al., arXiv:1511.06434, section 3.
    """

    channels: int = 512
    min_channels: int = 64
    kernel_size: int = 4
    num_halvings: int | None = None
    num_minibatch_kernels: int = 0
    norm: Literal["batch", "layer", "none"] = "batch"
    spectral_norm: bool = False
    num_outputs: int | None = None
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding", "projection"] = "concatenation"
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
            train: Whether to normalise by the batch, and to move power iterations on.

        Returns:
            Outputs, ``[B]``, or ``[B, num_outputs]``, float32.

        Raises:
            ValueError: If labels or the image size do not fit.
        """
        halvings = self.num_halvings or num_doublings(x.shape[1:])
        taps = (self.kernel_size, self.kernel_size)
        dtype: Any = jnp.dtype(self.dtype)
        h = LabelledInput(self.num_classes, self.conditioning, name="condition")(x, label)
        for i in range(halvings):
            width = max(self.channels >> (halvings - 1 - i), self.min_channels)
            conv = Conv(width, taps, (2, 2), kernel_init=_NORMAL, dtype=dtype, name=f"conv_{i}")
            h = apply_layer(
                conv, h, spectral_norm=self.spectral_norm, train=train, name=f"conv_{i}"
            )
            if i and self.norm == "batch":
                h = BatchNorm(None, dtype, name=f"norm_{i}")(h, train=train)
            elif i and self.norm == "layer":
                axes = (1, 2, 3)
                h = nn.LayerNorm(reduction_axes=axes, dtype=dtype, name=f"norm_{i}")(h)
            h = nn.leaky_relu(h, 0.2)
        head = CriticHead(
            self.num_outputs,
            self.num_classes,
            self.conditioning,
            self.spectral_norm,
            _NORMAL,
            name="head",
        )
        # The linear layer sees every place, a projection their sum.
        h = h.astype(jnp.float32)
        flat = h.reshape(h.shape[0], -1)
        if self.num_minibatch_kernels:
            flat = MinibatchDiscrimination(self.num_minibatch_kernels, name="minibatch")(flat)
        return head(flat, jnp.sum(h, axis=(1, 2)), label, train=train)
