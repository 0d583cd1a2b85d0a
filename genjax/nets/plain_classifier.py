"""Classifiers as they stand in older papers: a few convolutions, then dense layers."""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.conditioning import BatchNorm
from genjax.nets.convolution import Conv


class PlainConvClassifier(nn.Module):
    """Convolutions and dense layers with ReLU between them, and logits.

    With ``stride=2``, or with 2x2 maximum pooling after each convolution, the resolution is halved
    by each. The defaults are the network of the paper on domain adaptation, for images of 28
    pixels: convolutions of 5x5 to 32 and 48 channels, each pooled, whose 768 outputs are the
    features that the domains are told apart by, then layers of 100 and 100.

    Attributes:
        num_classes: Number of classes; experiments may leave it None for that of their data.
        channels: Channels of each convolution.
        kernel_size: Height and width of their kernels.
        stride: Their stride.
        padding: ``"VALID"``, which loses a margin, or ``"SAME"``.
        pool: Whether 2x2 maximum pooling follows each.
        hidden_sizes: Widths of the dense layers before the logits.
        features: What the features are: the outputs of the ``"convolutions"``, or the inputs of the
            ``"last"`` layer.
        batch_norm: Whether each convolution is followed by batch normalisation.

    References:
        Ganin et al., arXiv:1505.07818, figure 4a, for the defaults.
        Wong et al., arXiv:2001.03994, section 5.2, for ``channels=(16, 32)``, ``kernel_size=4``,
        ``stride=2`` and one layer of 100, without pooling.
    """

    num_classes: int | None = None
    channels: Sequence[int] = (32, 48)
    kernel_size: int = 5
    stride: int = 1
    padding: Literal["VALID", "SAME"] = "VALID"
    pool: bool = True
    hidden_sizes: Sequence[int] = (100, 100)
    features: Literal["convolutions", "last"] = "convolutions"
    batch_norm: bool = False

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        times: Float[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "B K"], Float[Array, "B F"]]:
        """Classifies images.

        Args:
            x: Images in [-1, 1], ``[B, H, W, C]``.
            times: None: it is of clean images.
            train: Whether batch normalisation is by the batch, and keeps its statistics.

        Returns:
            Logits ``[B, num_classes]`` and features ``[B, F]``.

        Raises:
            ValueError: If there are times, the images are too small, or the number of classes is
                not given.
        """
        if self.num_classes is None:
            raise ValueError("num_classes is None: give the number of classes")
        if times is not None:
            raise ValueError(
                "a plain classifier is of clean examples: leave family.process out, or take "
                "'conv_classifier' or 'unet_classifier'"
            )
        h, size, stride = x, (self.kernel_size,) * 2, (self.stride,) * 2
        for i, channels in enumerate(self.channels):
            h = Conv(channels, size, stride, padding=self.padding, name=f"conv_{i}")(h)
            if self.batch_norm:
                h = BatchNorm(name=f"norm_{i}")(h, train=train)
            h = nn.relu(h)
            h = _pooled(h) if self.pool else h
            if min(h.shape[1:3]) < 1:
                raise ValueError(
                    f"images of {x.shape[1]}x{x.shape[2]} are too small for {len(self.channels)} "
                    "convolutions: take fewer, or padding 'SAME'"
                )
        h = h.reshape(h.shape[0], -1)
        seen = h
        for i, width in enumerate(self.hidden_sizes):
            h = nn.relu(nn.Dense(width, name=f"dense_{i}")(h))
        logits = nn.Dense(self.num_classes, name="logits")(h)
        found = seen if self.features == "convolutions" else h
        return logits, found.astype(jnp.float32)


def _pooled(h: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
    """Largest of each 2x2 pixels; a last odd row or column is left out.

    Maxima of an array of pairs: the gradient of a windowed reduction is slow on CPUs.
    """
    count, height, width, channels = h.shape
    h = h[:, : height // 2 * 2, : width // 2 * 2]
    h = h.reshape(count, height // 2, 2, width // 2, 2, channels)
    return jnp.maximum(
        jnp.maximum(h[:, :, 0, :, 0], h[:, :, 0, :, 1]),
        jnp.maximum(h[:, :, 1, :, 0], h[:, :, 1, :, 1]),
    )


class DomainMLP(nn.Module):
    """Dense layers with ReLU from features to the log-odds of one of two domains.

    Attributes:
        hidden_size: Width of every layer; 100 in the paper of DANN, 500 in that of CDAN.
        num_layers: Number of hidden layers; 1 and 2 there.
    """

    hidden_size: int = 100
    num_layers: int = 1

    @nn.compact
    def __call__(self, features: Float[Array, "B F"]) -> Float[Array, " B"]:
        """Log-odds that features are of the source, ``[B]``."""
        h = features
        for i in range(self.num_layers):
            h = nn.relu(nn.Dense(self.hidden_size, name=f"dense_{i}")(h))
        return nn.Dense(1, name="logit")(h)[:, 0]
