"""Convolutional networks that see the pixels above and to the left: PixelCNN, masked and gated."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.nets.causal import as_numbers, shift
from genjax.nets.convolution import Conv
from genjax.nets.dropout import Dropout
from genjax.nets.embeddings import LabelEmbedding, check_label


def with_ones(x: Array, num_levels: int | None, dtype: Any) -> Float[Array, "B H W C1"]:
    """Images with a channel of ones, which tells pixels from what lies outside.

    Args:
        x: Whole grey levels or real numbers, ``[B, H, W, C]``.
        num_levels: Number of grey levels, or None.
        dtype: The precision of what comes, float32 if None.

    Returns:
        ``[B, H, W, C + 1]``.
    """
    h = as_numbers(x, num_levels)
    return jnp.pad(h, ((0, 0),) * 3 + ((0, 1),), constant_values=1.0).astype(dtype or h.dtype)


class PixelCNN(nn.Module):
    """Masked convolutions: a 7x7 without the pixel itself, then residual blocks of 3x3 with it.

    A network of one stack of masks does not see a wedge of pixels to the upper right, however deep
    it is; :class:`GatedPixelCNN` does.

    Attributes:
        channels: Half the features between blocks, and the features inside of them.
        num_blocks: Number of residual blocks.
        by_channel: Whether the channels of a pixel are described one after the other, red before
            green before blue: features are in as many groups, each of which sees the groups before
            it at its own pixel. Otherwise they are described together.
        num_classes: Number of classes, or None for an unconditional model.
        num_levels: Number of grey levels of the data, or None for real numbers; the family's.
        num_outputs: Outputs for each pixel, or for each of its channels; the family's.
        dtype: The precision of the trunk; the last layer is float32.

    References:
        van den Oord et al., Pixel Recurrent Neural Networks, arXiv:1601.06759, section 3.3, table 1
        and figure 5; section 3.4 and figure 2 for the masks of channels.
    """

    channels: int = 32
    num_blocks: int = 7
    by_channel: bool = False
    num_classes: int | None = None
    num_levels: int | None = None
    num_outputs: int = 1
    dtype: Any = None

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @property
    def by_pixel(self) -> bool:
        """Whether the channels of a pixel are described together."""
        return not self.by_channel

    @nn.compact
    def __call__(
        self, x: Array, label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B H W *place"]:
        """Looks at images.

        Args:
            x: Whole grey levels or real numbers, ``[B, H, W, C]``.
            label: Class ids, ``[B]``, of which a negative one means no label.

        Returns:
            Outputs of each pixel that depend on the pixels before it, ``[B, H, W, num_outputs]``,
            or of each entry that depend on the entries before it, ``[B, H, W, C, num_outputs]``.

        Raises:
            ValueError: If labels do not fit, or ``channels`` is no multiple of those of the images
                that are described one by one.
        """
        check_label(self.num_classes, label)
        count = x.shape[-1] if self.by_channel else 1
        if self.channels % count:
            raise ValueError(
                f"channels must be a multiple of the {count} channels of an image, got "
                f"{self.channels}"
            )

        def conv(h: Array, features: int, size: int, name: str, dtype: Any = self.dtype) -> Array:
            mask = _mask(size, _groups(h.shape[-1], count), _groups(features, count))
            used = None if mask.all() else jnp.asarray(mask)
            return Conv(features, (size, size), mask=used, dtype=dtype, name=name)(h)

        h = with_ones(x, self.num_levels, self.dtype)
        # Groups of the input are counted from 1, so that each is seen by those after it only.
        seen = np.append(1 + _groups(x.shape[-1], count), count)
        mask = jnp.asarray(_mask(7, seen, _groups(2 * self.channels, count)))
        h = Conv(2 * self.channels, (7, 7), mask=mask, dtype=self.dtype, name="conv_in")(h)
        for i in range(self.num_blocks):
            r = conv(nn.relu(h), self.channels, 1, f"reduce_{i}")
            if label is not None:
                assert self.num_classes is not None
                told = LabelEmbedding(self.num_classes, self.channels, name=f"label_{i}")(label)
                r += told[:, None, None].astype(r.dtype)
            r = conv(nn.relu(r), self.channels, 3, f"conv_{i}")
            h += conv(nn.relu(r), 2 * self.channels, 1, f"expand_{i}")
        h = nn.relu(conv(nn.relu(h), 2 * self.channels, 1, "dense"))
        h = h.astype(jnp.float32)
        if not self.by_channel:
            return nn.Dense(self.num_outputs, name="outputs")(h)
        y = conv(h, count * self.num_outputs, 1, "outputs", jnp.float32)
        return y.reshape(*y.shape[:-1], count, self.num_outputs)


def _groups(features: int, count: int) -> np.ndarray:
    """The group of each of some features, as many in each, or for want of them all in the first."""
    return np.arange(features) * count // features


def _mask(size: int, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Ones at the taps before the centre in raster order, and there from groups up to the own one.

    Args:
        size: Odd height and width of the kernel.
        inputs: Group of each input, ``[I]``.
        outputs: Group of each output, ``[O]``.

    Returns:
        ``[size, size, I, O]``, float32.
    """
    before = np.arange(size * size) < size * size // 2
    mask = np.broadcast_to(before[:, None, None], (size * size, len(inputs), len(outputs))).copy()
    mask[size * size // 2] = inputs[:, None] <= outputs
    return mask.reshape(size, size, len(inputs), len(outputs)).astype(np.float32)


class GatedPixelCNN(nn.Module):
    """Gated layers of two stacks: of the rows above, and of the pixels to the left.

    Instead of masks there are smaller kernels and shifts: each stack computes what it may see, and
    no weight is multiplied by zero.

    Attributes:
        channels: Channels of either stack.
        num_layers: Number of gated layers.
        kernel_size: Odd width of the rows that a layer sees above; it sees half as many pixels to
            the left.
        dropout_rate: Share of activations dropped in each layer, in [0, 1); acts where an rng
            ``dropout`` is given.
        num_classes: Number of classes, or None for an unconditional model.
        num_levels: Number of grey levels of the data, or None for real numbers; the family's.
        num_outputs: Outputs for each pixel; the family's.
        dtype: The precision of the trunk; the last layer is float32.

    References:
        van den Oord et al., Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328,
        section 2 and figure 2.
    """

    channels: int = 64
    num_layers: int = 8
    kernel_size: int = 3
    dropout_rate: float = 0.0
    num_classes: int | None = None
    num_levels: int | None = None
    num_outputs: int = 1
    dtype: Any = None

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @property
    def by_pixel(self) -> bool:
        """The channels of a pixel are described together."""
        return True

    @nn.compact
    def __call__(self, x: Array, label: Int[Array, " B"] | None = None) -> Float[Array, "B H W P"]:
        """Looks at images.

        Args:
            x: Whole grey levels or real numbers, ``[B, H, W, C]``.
            label: Class ids, ``[B]``, of which a negative one means no label.

        Returns:
            Outputs of each pixel that depend on the pixels before it, ``[B, H, W, num_outputs]``.

        Raises:
            ValueError: If labels do not fit, or ``kernel_size`` is even.
        """
        check_label(self.num_classes, label)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        side = self.kernel_size // 2

        def above(h: Array, rows: int, side: int, name: str) -> Array:
            pads = ((rows - 1, 0), (side, side))
            kernel = (rows, 2 * side + 1)
            features = 2 * self.channels
            return Conv(features, kernel, padding=pads, dtype=self.dtype, name=name)(h)

        def left(h: Array, columns: int, name: str) -> Array:
            pads = ((0, 0), (columns - 1, 0))
            features = 2 * self.channels
            return Conv(features, (1, columns), padding=pads, dtype=self.dtype, name=name)(h)

        def gated(h: Array, name: str) -> Array:
            if label is not None:
                assert self.num_classes is not None
                told = LabelEmbedding(self.num_classes, h.shape[-1], name=f"label_{name}")(label)
                h += told[:, None, None].astype(h.dtype)
            a, b = jnp.split(h, 2, axis=-1)
            return nn.tanh(a) * nn.sigmoid(b)

        x = with_ones(x, self.num_levels, self.dtype)
        # Once a stack has been moved, its convolutions may look at their own place.
        vertical = gated(shift(above(x, 3, 3, "vertical_in"), rows=1), "vertical_in")
        horizontal = left(x, 3, "horizontal_in")
        horizontal = gated(shift(horizontal, columns=1), "horizontal_in")
        for i in range(self.num_layers):
            rows = above(vertical, side + 1, side, f"vertical_{i}")
            h = left(horizontal, side + 1, f"horizontal_{i}")
            h += nn.Dense(2 * self.channels, dtype=self.dtype, name=f"down_{i}")(rows)
            vertical = gated(rows, f"vertical_{i}")
            h = gated(h, f"horizontal_{i}")
            h = Dropout(self.dropout_rate)(h, deterministic=not self.has_rng("dropout"))
            horizontal += nn.Dense(self.channels, dtype=self.dtype, name=f"out_{i}")(h)
        h = nn.relu(nn.Dense(self.channels, dtype=self.dtype, name="dense")(nn.relu(horizontal)))
        return nn.Dense(self.num_outputs, name="outputs")(h.astype(jnp.float32))
