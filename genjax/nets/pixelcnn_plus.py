"""PixelCNN++: two streams at several resolutions, with shortcuts and weight normalisation."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.causal import shift
from genjax.nets.dropout import Dropout
from genjax.nets.embeddings import LabelEmbedding, check_label
from genjax.nets.pixelcnn import with_ones
from genjax.nets.weight_norm import WeightNormConv


class GatedResNet(nn.Module):
    """Two convolutions, the second one gated, and a shortcut from another stream between them.

    Attributes:
        kernel_size: Taps of both convolutions.
        padding: Their padding, which makes them causal.
        dropout_rate: Share of activations dropped between them; acts where an rng ``dropout`` is
            given.
        num_classes: Number of classes, or None.
        dtype: The precision of the computation.
    """

    kernel_size: Sequence[int]
    padding: Sequence[tuple[int, int]]
    dropout_rate: float
    num_classes: int | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, other: Array | None, label: Array | None) -> Array:
        """Maps ``[B, H, W, C]`` to the same shape; ``other`` is ``[B, H, W, C']``."""
        channels = x.shape[-1]
        fields = dict(kernel_size=self.kernel_size, padding=self.padding, dtype=self.dtype)
        h = WeightNormConv(channels, **fields, name="conv_0")(_concat_elu(x))
        if other is not None:
            h += WeightNormConv(channels, (1, 1), dtype=self.dtype, name="other")(
                _concat_elu(other)
            )
        h = Dropout(self.dropout_rate)(_concat_elu(h), deterministic=not self.has_rng("dropout"))
        h = WeightNormConv(2 * channels, **fields, init_scale=0.1, name="conv_1")(h)
        if label is not None:
            assert self.num_classes is not None
            told = LabelEmbedding(self.num_classes, 2 * channels, name="label")(label)
            h += told[:, None, None].astype(h.dtype)
        a, b = jnp.split(h, 2, axis=-1)
        return x + a * nn.sigmoid(b)


def _concat_elu(x: Array) -> Array:
    return nn.elu(jnp.concatenate([x, -x], axis=-1))


_DOWN: dict[str, Any] = dict(kernel_size=(2, 3), padding=((1, 0), (1, 1)))
"""Sees its own row and the one above."""
_RIGHT: dict[str, Any] = dict(kernel_size=(2, 2), padding=((1, 0), (1, 0)))
"""Sees its own place, and those above and to the left."""


class PixelCNNPlus(nn.Module):
    """PixelCNN++: a stream of the rows above and one of all pixels before, down and up again.

    Attributes:
        channels: Channels of either stream; 160 in the paper.
        num_blocks: Blocks of each resolution on the way down; 5 in the paper. On the way up the
            lower ones have one more for the shortcuts across.
        num_halvings: Number of times the resolution is halved; 2 in the paper.
        dropout_rate: Share of activations dropped in each block, in [0, 1); acts where an rng
            ``dropout`` is given. 0.5 in the paper.
        num_classes: Number of classes, or None for an unconditional model.
        num_levels: Number of grey levels of the data, or None for real numbers; the family's.
        num_outputs: Outputs for each pixel; the family's.
        dtype: The precision of the trunk; the last layer is float32.

    References:
        Salimans et al., PixelCNN++, arXiv:1701.05517, section 2.3 to 2.5 and figure 2.
    """

    channels: int = 64
    num_blocks: int = 2
    num_halvings: int = 2
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

    def _conv(self, name: str, **fields: Any) -> WeightNormConv:
        return WeightNormConv(self.channels, dtype=self.dtype, name=name, **fields)

    def _block(self, name: str, **fields: Any) -> GatedResNet:
        own = (self.dropout_rate, self.num_classes, self.dtype)
        return GatedResNet(fields["kernel_size"], fields["padding"], *own, name=name)

    @nn.compact
    def __call__(self, x: Array, label: Int[Array, " B"] | None = None) -> Float[Array, "B H W P"]:
        """Looks at images.

        Args:
            x: Whole grey levels or real numbers, ``[B, H, W, C]``.
            label: Class ids, ``[B]``, of which a negative one means no label.

        Returns:
            Outputs of each pixel that depend on the pixels before it, ``[B, H, W, num_outputs]``.

        Raises:
            ValueError: If labels or the image size do not fit.
        """
        check_label(self.num_classes, label)
        if any(side % 2**self.num_halvings for side in x.shape[1:3]):
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} cannot be halved {self.num_halvings} times; "
                "lower num_halvings"
            )
        h = with_ones(x, self.num_levels, self.dtype)
        above = shift(self._conv("above_in", **_DOWN)(h), rows=1)
        row = self._conv("row_in", kernel_size=(1, 3), padding=((0, 0), (1, 1)))(h)
        column = self._conv("column_in", kernel_size=(2, 1), padding=((1, 0), (0, 0)))(h)
        before = shift(row, rows=1) + shift(column, columns=1)
        shortcuts = [(above, before)]
        for i in range(self.num_halvings + 1):
            for j in range(self.num_blocks):
                above = self._block(f"down_{i}_{j}_above", **_DOWN)(above, None, label)
                before = self._block(f"down_{i}_{j}_before", **_RIGHT)(before, above, label)
                shortcuts.append((above, before))
            if i < self.num_halvings:
                above = self._conv(f"halve_{i}_above", strides=(2, 2), **_DOWN)(above)
                before = self._conv(f"halve_{i}_before", strides=(2, 2), **_RIGHT)(before)
                shortcuts.append((above, before))
        above, before = shortcuts.pop()
        for i in reversed(range(self.num_halvings + 1)):
            # Each shortcut is used once: at full resolution there is one less to be used.
            lowest = i == self.num_halvings
            for j in range(self.num_blocks + (not lowest)):
                shortcut = shortcuts.pop()
                above = self._block(f"up_{i}_{j}_above", **_DOWN)(above, shortcut[0], label)
                other = jnp.concatenate([above, shortcut[1]], axis=-1)
                before = self._block(f"up_{i}_{j}_before", **_RIGHT)(before, other, label)
            if i:
                above = self._double(above, 3, f"double_{i}_above")
                before = self._double(before, 2, f"double_{i}_before")
        assert not shortcuts
        outputs = nn.elu(before).astype(jnp.float32)
        return nn.Dense(self.num_outputs, name="outputs")(outputs)

    def _double(self, x: Array, width: int, name: str) -> Array:
        """Twice the resolution: pixels look at the one of the smaller image that they lie in."""
        fields = dict(strides=(2, 2), transposed=True)
        grown = self._conv(name, kernel_size=(2, width), padding="VALID", **fields)(x)
        # A kernel of three columns reaches into the pixel to the left, too.
        return grown[:, :, width - 2 :][:, :, : 2 * x.shape[2]]
