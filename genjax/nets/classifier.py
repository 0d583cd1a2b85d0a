"""A small convolutional classifier, whose features stand in for Inception's on small images."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.convolution import Conv
from genjax.nets.normalization import GroupNorm


class ConvClassifier(nn.Module):
    """Convolutions (3x3, then stride 2) with group normalisation, a dense layer, and logits.

    Attributes:
        num_classes: Number of classes; experiments may leave it None for that of their data.
        channels: Channels of the first convolution, doubled at each halving.
        num_halvings: Number of times the resolution is halved.
        num_features: Width of the dense layer before the logits: the features.
    """

    num_classes: int | None = None
    channels: int = 32
    num_halvings: int = 2
    num_features: int = 64

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"]
    ) -> tuple[Float[Array, "B K"], Float[Array, "B F"]]:
        """Classifies images.

        Args:
            x: Images in [-1, 1], ``[B, H, W, C]``.

        Returns:
            Logits ``[B, num_classes]`` and features ``[B, num_features]``, the inputs of the last
            layer.

        Raises:
            ValueError: If the images are too small, or the number of classes is not given.
        """
        if self.num_classes is None:
            raise ValueError("num_classes is None: give the number of classes")
        if min(x.shape[1:3]) < 2**self.num_halvings:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} cannot be halved {self.num_halvings} times; "
                "lower num_halvings"
            )
        h = x
        for i in range(self.num_halvings):
            # The first convolution keeps the resolution, the second halves it.
            for j, stride in enumerate((1, 2)):
                h = Conv(self.channels << i, (3, 3), (stride, stride), name=f"conv_{i}_{j}")(h)
                h = nn.relu(GroupNorm(num_groups=8, name=f"norm_{i}_{j}")(h))
        h = nn.Dense(self.num_features, name="features")(h.reshape(h.shape[0], -1))
        features = nn.relu(h).astype(jnp.float32)
        return nn.Dense(self.num_classes, name="logits")(features), features
