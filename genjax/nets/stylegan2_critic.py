"""Critic of StyleGAN2."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.dcgan import num_doublings
from genjax.nets.embeddings import check_label
from genjax.nets.equalized import EqualizedConv, EqualizedDense, scaled_leaky_relu
from genjax.nets.styles import Mapping, channels_at


def minibatch_deviation(x: Float[Array, "B H W C"], group_size: int) -> Float[Array, "B H W 1"]:
    """How much the rows of a group differ: one number for all of its pixels and channels.

    With ``M`` groups row ``i`` belongs to group ``i mod M``.

    Args:
        x: Features, ``[B, H, W, C]``.
        group_size: Rows of a group; where it does not divide the batch, the largest number below
            that does.

    Returns:
        The mean over pixels and channels of the standard deviation over the group, as a map of one
        channel, ``[B, H, W, 1]``.

    References:
        Karras et al., arXiv:1710.10196, section 3; groups as in NVlabs/stylegan2-ada-pytorch.
    """
    rows = x.shape[0]
    size = next(n for n in range(min(group_size, rows), 0, -1) if rows % n == 0)
    groups = x.astype(jnp.float32).reshape(size, rows // size, *x.shape[1:])
    centred = groups - jnp.mean(groups, axis=0)
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred), axis=0) + 1e-8)
    one = jnp.tile(jnp.mean(deviation, axis=(1, 2, 3)), size)
    return jnp.broadcast_to(one[:, None, None, None], (*x.shape[:-1], 1)).astype(x.dtype)


class StyleGAN2Critic(nn.Module):
    """Images to a score by residual blocks, each of which halves the resolution.

    Attributes:
        base_channels: Channels times side of the image, up to ``max_channels``.
        max_channels: Most channels of a layer.
        residual: Whether blocks are residual, else plain, as for CIFAR-10.
        group_size: Rows whose deviation the last layers see: 4 in the paper, 32 for CIFAR-10; 1 to
            see rows one by one.
        taps: Filter before each halving; ``(1, 2, 1)`` in the first StyleGAN.
        num_mapping_layers: Layers of the network that labels go through.
        num_classes: Number of classes, or None for an unconditional model.
        num_outputs: Length of the output (features of an MMD GAN), or None for one number a row.
        dtype: The precision of the convolutions.

    References:
        Karras et al., arXiv:1912.04958, section 4.1 and appendix B; labels as in
        NVlabs/stylegan2-ada-pytorch.
    """

    base_channels: int = 32_768
    max_channels: int = 512
    residual: bool = True
    group_size: int = 4
    taps: tuple[int, ...] = (1, 3, 3, 1)
    num_mapping_layers: int = 8
    num_classes: int | None = None
    num_outputs: int | None = None
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
            train: Changes nothing: the critic has no state.

        Returns:
            Outputs, ``[B]``, or ``[B, num_outputs]``, float32.

        Raises:
            ValueError: If labels or the image size do not fit.
        """
        check_label(self.num_classes, label)
        if self.num_classes is not None and self.num_outputs is not None:
            raise ValueError("a label needs a critic with one output: set num_outputs to None")
        halvings, side = num_doublings(x.shape[1:]), x.shape[1]
        dtype: Any = jnp.dtype(self.dtype)

        def layer(h: Array, channels: int, name: str, size: int = 3, *, halve: bool = False) -> Any:
            made = EqualizedConv(channels, size, halve, self.taps, dtype=dtype, name=name)
            return scaled_leaky_relu(made(h))

        width = channels_at(side, self.base_channels, self.max_channels)
        h = layer(x, width, "image", 1)
        for i in range(halvings):
            narrow = width
            width = channels_at(side >> (i + 1), self.base_channels, self.max_channels)
            r = layer(layer(h, narrow, f"conv_{i}"), width, f"halve_{i}", halve=True)
            if self.residual:
                shortcut = EqualizedConv(
                    width, 1, True, self.taps, use_bias=False, dtype=dtype, name=f"shortcut_{i}"
                )
                # The sum of two has the variance of one.
                r = (r + shortcut(h)) * jnp.asarray(math.sqrt(0.5), dtype)
            h = r
        if self.group_size > 1:
            h = jnp.concatenate([h, minibatch_deviation(h, self.group_size)], axis=-1)
        h = layer(h, width, "conv_out").astype(jnp.float32)
        h = scaled_leaky_relu(EqualizedDense(width, name="dense")(h.reshape(h.shape[0], -1)))
        if self.num_outputs is not None:
            return EqualizedDense(self.num_outputs, name="head")(h)
        if self.num_classes is None:
            return EqualizedDense(1, name="head")(h)[:, 0]
        labels = Mapping(width, self.num_mapping_layers, self.num_classes, 0.01, name="mapping")
        features = EqualizedDense(width, name="head")(h)
        return jnp.sum(features * labels(None, label), axis=-1) / math.sqrt(width)
