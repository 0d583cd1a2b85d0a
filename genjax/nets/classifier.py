"""Small classifiers, whose features stand in for Inception's on small images."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.convolution import Conv
from genjax.nets.embeddings import NoiseAndLabel
from genjax.nets.noise import GaussianNoise
from genjax.nets.normalization import GroupNorm
from genjax.nets.weight_norm import WeightNormDense


class LinearClassifier(nn.Module):
    """Logistic regression: logits are affine in the entries of an example.

    It is the discriminative counterpart of linear discriminant analysis, whose posterior has the
    same form.

    Attributes:
        num_classes: Number of classes; experiments may leave it None for that of their data.

    References:
        Ng and Jordan, On Discriminative vs. Generative Classifiers, 2001.
    """

    num_classes: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *event"], times: Float[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B K"], Float[Array, "B F"]]:
        """Classifies examples.

        Args:
            x: Images in [-1, 1], or real-valued rows, ``[B, *event]``.
            times: None: affine logits cannot depend on how noisy an example is.

        Returns:
            Logits ``[B, num_classes]`` and features, the entries ``[B, F]`` themselves.

        Raises:
            ValueError: If there are times, or the number of classes is not given.
        """
        if self.num_classes is None:
            raise ValueError("num_classes is None: give the number of classes")
        if times is not None:
            raise ValueError(
                "a linear classifier is of clean examples: leave family.process out, or take "
                "'conv_classifier' or 'unet_classifier'"
            )
        features = x.reshape(x.shape[0], -1).astype(jnp.float32)
        zeros = nn.initializers.zeros_init()  # convex: where it starts does not matter
        return nn.Dense(self.num_classes, kernel_init=zeros, name="logits")(features), features


class ConvClassifier(nn.Module):
    """Convolutions (3x3, then stride 2) with group normalisation, a dense layer, and logits.

    Of noisy images it is told the time, which scales and shifts the channels after each norm.

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
        self, x: Float[Array, "B H W C"], times: Float[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B K"], Float[Array, "B F"]]:
        """Classifies images.

        Args:
            x: Images in [-1, 1], or noisy ones of about unit size, ``[B, H, W, C]``.
            times: How noisy each is, in [0, 1], ``[B]``; None for clean images.

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
        condition = None
        if times is not None:
            width = 4 * self.channels
            condition = NoiseAndLabel(width, width, 0.0, 1.0, None, name="condition")(times, None)
        h = x
        for i in range(self.num_halvings):
            # The first convolution keeps the resolution, the second halves it.
            for j, stride in enumerate((1, 2)):
                h = Conv(self.channels << i, (3, 3), (stride, stride), name=f"conv_{i}_{j}")(h)
                film = None
                if condition is not None:
                    zeros = nn.initializers.zeros_init()
                    dense = nn.Dense(2 * h.shape[-1], kernel_init=zeros, name=f"film_{i}_{j}")
                    scale, shift = jnp.split(dense(condition), 2, axis=-1)
                    film = scale, shift
                h = nn.relu(GroupNorm(num_groups=8, name=f"norm_{i}_{j}")(h, film))
        h = nn.Dense(self.num_features, name="features")(h.reshape(h.shape[0], -1))
        features = nn.relu(h).astype(jnp.float32)
        return nn.Dense(self.num_classes, name="logits")(features), features


class NoisyMLPClassifier(nn.Module):
    """Dense layers with weight normalisation from data, and Gaussian noise before each.

    Noise acts where an rng ``dropout`` is given. Widths and noise are those of the published
    semi-supervised network for MNIST, whose images are in [0, 1].

    Attributes:
        num_classes: Number of classes; experiments may leave it None for that of their data.
        hidden_sizes: Widths of the hidden layers; the last is that of the features.
        unit_interval: Whether images in [-1, 1] are seen in [0, 1], where empty pixels are 0. As
            -1, each step would move the weights of all empty pixels alike, and with them the sum
            by as many times the learning rate.
        input_noise: Standard deviation of the noise on the entries of an example, as it is seen.
        hidden_noise: That of the noise on each hidden layer's activations.

    References:
        Salimans et al., arXiv:1606.03498, section 6.1; the widths and noise are those of the
        authors' code, in which the scales of hidden layers stay what the first rows made them.
    """

    num_classes: int | None = None
    hidden_sizes: Sequence[int] = (1000, 500, 250, 250, 250)
    unit_interval: bool = False
    input_noise: float = 0.3
    hidden_noise: float = 0.5

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *event"], times: Float[Array, " B"] | None = None
    ) -> tuple[Float[Array, "B K"], Float[Array, "B F"]]:
        """Classifies examples.

        Args:
            x: Images in [-1, 1], or real-valued rows, ``[B, *event]``.
            times: None: it is a classifier of clean examples.

        Returns:
            Logits ``[B, num_classes]`` and features ``[B, hidden_sizes[-1]]``, the last hidden
            layer's activations before noise.

        Raises:
            ValueError: If there are times, or the number of classes is not given.
        """
        if self.num_classes is None:
            raise ValueError("num_classes is None: give the number of classes")
        if times is not None:
            raise ValueError(
                "this classifier is of clean examples: leave family.process out, or take "
                "'conv_classifier' or 'unet_classifier'"
            )
        features = x.reshape(x.shape[0], -1).astype(jnp.float32)
        if self.unit_interval:
            features = (features + 1.0) / 2.0
        h = GaussianNoise(self.input_noise, name="noise_in")(features)
        for i, width in enumerate(self.hidden_sizes):
            dense = WeightNormDense(width, kernel_std=0.1, learn_scale=False, name=f"dense_{i}")
            features = nn.relu(dense(h))
            h = GaussianNoise(self.hidden_noise, name=f"noise_{i}")(features)
        return WeightNormDense(self.num_classes, kernel_std=0.1, name="logits")(h), features
