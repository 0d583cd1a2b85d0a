"""Generator and critic of R3GAN: grouped residual blocks without normalisation."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.nets.convolution import Conv
from genjax.nets.dcgan import num_doublings
from genjax.nets.embeddings import check_label

_SLOPE = 0.2
_GAIN = float(np.sqrt(2.0 / (1.0 + _SLOPE**2)))
"""What keeps the variance of an activation through a LeakyReLU."""


def _normal(gain: float = 1.0) -> Any:
    """Normals whose variance is ``gain`` squared over the number of inputs."""
    return nn.initializers.variance_scaling(gain**2, "fan_in", "normal")


def upsample(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
    """Doubles height and width: linear interpolation, zeros beyond the edges.

    The filter is [1, 2, 1] after repeating pixels, which is [1, 3, 3, 1] / 4 on each axis.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        pad = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        wide = jnp.pad(x, pad)
        before = jax.lax.slice_in_dim(wide, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(wide, 2, size + 2, axis=axis)
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


def downsample(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
    """Halves height and width by [1, 3, 3, 1] / 8 on each axis, zeros beyond the edges.

    It is a quarter of the adjoint of :func:`upsample`.
    """
    for axis in (1, 2):
        pad = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        wide, size = jnp.pad(x, pad), x.shape[axis]
        taps = [jax.lax.slice_in_dim(wide, i, i + size - 1, stride=2, axis=axis) for i in range(4)]
        x = 0.125 * (taps[0] + taps[3]) + 0.375 * (taps[1] + taps[2])
    return x


class _Block(nn.Module):
    """Adds to its input: 1x1, 3x3 in groups, 1x1, a biased LeakyReLU between two.

    Attributes:
        expansion: Channels between, as a multiple of those outside.
        group_size: Channels in a group.
        num_blocks: Blocks of the whole network, by which weights start smaller (Fixup).
        dtype: The precision.
    """

    expansion: int
    group_size: int
    num_blocks: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        width = x.shape[-1] * self.expansion
        if width % self.group_size:
            raise ValueError(
                f"group_size ({self.group_size}) must divide channels times expansion ({width})"
            )
        start = _normal(_GAIN * self.num_blocks**-0.25)
        zero = nn.initializers.zeros_init()
        kwargs: Any = dict(use_bias=False, dtype=self.dtype)
        y = Conv(width, (1, 1), kernel_init=start, name="expand", **kwargs)(x)
        y = self._activated(y, "bias_0")
        groups = width // self.group_size
        y = Conv(
            width, (3, 3), kernel_init=start, feature_group_count=groups, name="mix", **kwargs
        )(y)
        y = self._activated(y, "bias_1")
        return x + Conv(x.shape[-1], (1, 1), kernel_init=zero, name="contract", **kwargs)(y)

    def _activated(self, y: Array, name: str) -> Array:
        bias = self.param(name, nn.initializers.zeros_init(), (y.shape[-1],))
        return nn.leaky_relu(y + bias.astype(y.dtype), _SLOPE)


def _stage_channels(channels: int, min_channels: int, stages: int) -> list[int]:
    """Channels from the lowest resolution to the highest, halved at each doubling."""
    return [max(channels >> i, min_channels) for i in range(stages)]


class R3GANGenerator(nn.Module):
    """Latents to images: learned maps of 4x4 (7x7), scaled by the latent, then residual stages.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``, square, with a side of 4 or 7 times a power
            of two.
        channels: Channels at the lowest resolution, halved at each doubling; 768 at all of them for
            CIFAR-10.
        min_channels: Halving stops here.
        num_blocks: Residual blocks at each resolution; 2 in the paper.
        expansion: Channels inside of blocks, as a multiple of those outside.
        group_size: Channels in a group of their 3x3 convolutions; 16 in the paper.
        num_classes: Number of classes, or None for an unconditional model. Labels are embedded
            beside the latent.
        dtype: The precision between the first layer and the images.

    References:
        Huang et al., The GAN is dead; long live the GAN!, arXiv:2501.05441, section 3 and
        appendix; sizes, gains and filters are those of brownvc/R3GAN.
    """

    event_shape: tuple[int, ...]
    channels: int = 768
    min_channels: int = 768
    num_blocks: int = 2
    expansion: int = 2
    group_size: int = 16
    num_classes: int | None = None
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
        """Generates images, float32, which nothing confines to [-1, 1].

        Args:
            latent: Draws of the latent distribution, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Without effect: the network is the same in training.

        Returns:
            Images, ``[B, H, W, C]``.

        Raises:
            ValueError: If labels, the image size or groups do not fit.
        """
        check_label(self.num_classes, label)
        stages = num_doublings(self.event_shape) + 1
        side = self.event_shape[0] >> (stages - 1)
        dtype: Any = jnp.dtype(self.dtype)
        if self.num_classes is not None:
            shown = jax.nn.one_hot(label, self.num_classes, dtype=latent.dtype)
            embed = nn.Dense(latent.shape[-1], use_bias=False, kernel_init=_normal(), name="label")
            latent = jnp.concatenate([latent, embed(shown)], -1)
        widths = _stage_channels(self.channels, self.min_channels, stages)
        basis = self.param("basis", nn.initializers.normal(1.0), (side, side, widths[0]))
        scale = nn.Dense(widths[0], use_bias=False, kernel_init=_normal(), name="scale")(latent)
        h = (basis * scale[:, None, None]).astype(dtype)
        for i, width in enumerate(widths):
            if i:
                if width != h.shape[-1]:
                    h = Conv(width, (1, 1), use_bias=False, kernel_init=_normal(), dtype=dtype,
                             name=f"narrow_{i}")(h)  # fmt: skip
                h = upsample(h)
            for j in range(self.num_blocks):
                h = _Block(self.expansion, self.group_size, stages * self.num_blocks, dtype,
                           name=f"block_{i}_{j}")(h)  # fmt: skip
        last = Conv(self.event_shape[-1], (1, 1), use_bias=False, kernel_init=_normal(),
                    dtype=dtype, name="conv_out")  # fmt: skip
        return last(h).astype(jnp.float32)


class R3GANCritic(nn.Module):
    """Images to a score: the generator's stages the other way round.

    Attributes:
        channels: Channels at the lowest resolution, halved at each higher one; 768 at all of them
            for CIFAR-10.
        min_channels: Halving stops here.
        num_blocks: Residual blocks at each resolution; 2 in the paper.
        expansion: Channels inside of blocks, as a multiple of those outside.
        group_size: Channels in a group of their 3x3 convolutions; 16 in the paper.
        num_outputs: Length of the output (features of an MMD GAN), or None for one number a row.
        num_classes: Number of classes, or None for an unconditional model. The score is then a
            product of features with an embedding of the label, both of ``channels`` entries.
        dtype: The precision of the convolutions.

    References:
        See :class:`R3GANGenerator`.
    """

    channels: int = 768
    min_channels: int = 768
    num_blocks: int = 2
    expansion: int = 2
    group_size: int = 16
    num_outputs: int | None = None
    num_classes: int | None = None
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
            x: Images, ``[B, H, W, C]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Without effect: the network is the same in training.

        Returns:
            Outputs, ``[B]``, or ``[B, num_outputs]``, float32.

        Raises:
            ValueError: If labels, the image size or groups do not fit, or there are both classes
                and several outputs.
        """
        check_label(self.num_classes, label)
        if self.num_classes is not None and self.num_outputs is not None:
            raise ValueError("r3gan: a conditional critic has one output; set num_outputs to None")
        stages = num_doublings(x.shape[1:]) + 1
        widths = _stage_channels(self.channels, self.min_channels, stages)[::-1]
        dtype: Any = jnp.dtype(self.dtype)
        conv: Any = dict(use_bias=False, kernel_init=_normal(), dtype=dtype)
        h = Conv(widths[0], (1, 1), name="conv_in", **conv)(x)
        for i, width in enumerate(widths):
            if i:
                h = downsample(h)
                if width != h.shape[-1]:
                    h = Conv(width, (1, 1), name=f"widen_{i}", **conv)(h)
            for j in range(self.num_blocks):
                h = _Block(self.expansion, self.group_size, stages * self.num_blocks, dtype,
                           name=f"block_{i}_{j}")(h)  # fmt: skip
        # Each channel is compared with a map of its own: a depthwise convolution with one place.
        basis = self.param("basis", nn.initializers.normal(1.0 / h.shape[1]), h.shape[1:])
        pooled = jnp.sum(h.astype(jnp.float32) * basis, axis=(1, 2))
        features = self.channels if self.num_classes is not None else self.num_outputs or 1
        y = nn.Dense(features, use_bias=False, kernel_init=_normal(), name="head")(pooled)
        if self.num_classes is not None:
            shown = jax.nn.one_hot(label, self.num_classes, dtype=y.dtype)
            start = _normal(self.channels**-0.5)
            embed = nn.Dense(self.channels, use_bias=False, kernel_init=start, name="label")
            return jnp.sum(y * embed(shown), -1)
        return y[:, 0] if self.num_outputs is None else y
