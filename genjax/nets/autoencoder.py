"""Encoders and decoders of latent variable models: features of examples and of latents."""

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float, Int

from genjax.nets.conditioning import LabelledLatent
from genjax.nets.convolution import Conv, ConvTranspose
from genjax.nets.dcgan import num_doublings
from genjax.nets.normalization import GroupNorm

_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "swish": nn.swish}


class MLPEncoder(nn.Module):
    """Multilayer perceptron from the entries of an example to features.

    Attributes:
        hidden_size: Width of every layer, and of the features.
        num_layers: Number of layers.
        activation: ``"relu"``, ``"tanh"`` (as Burda et al. have it) or ``"swish"``.
        num_classes: Number of classes, appended one-hot, or None for no labels.

    References:
        Kingma and Welling, arXiv:1312.6114, appendix C.
    """

    hidden_size: int = 200
    num_layers: int = 2
    activation: Literal["relu", "tanh", "swish"] = "relu"
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *event"], label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B F"]:
        """Looks at examples.

        Args:
            x: Examples, ``[B, *event]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.

        Returns:
            Features, ``[B, hidden_size]``.

        Raises:
            ValueError: If labels do not fit.
        """
        rows = x.reshape(x.shape[0], -1)
        h = LabelledLatent(self.num_classes, "concatenation", name="condition")(rows, label)
        for i in range(self.num_layers):
            h = _ACTIVATIONS[self.activation](nn.Dense(self.hidden_size, name=f"dense_{i}")(h))
        return h


class MLPDecoder(nn.Module):
    """Multilayer perceptron from latents to features of an example as a whole.

    Attributes:
        hidden_size: Width of every layer, and of the features.
        num_layers: Number of layers.
        activation: ``"relu"``, ``"tanh"`` or ``"swish"``.
        num_classes: Number of classes, appended one-hot, or None for no labels.
    """

    hidden_size: int = 200
    num_layers: int = 2
    activation: Literal["relu", "tanh", "swish"] = "relu"
    num_classes: int | None = None

    @nn.compact
    def __call__(
        self, latent: Float[Array, "B Z"], label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B F"]:
        """Describes what latents stand for.

        Args:
            latent: Latents, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.

        Returns:
            Features, ``[B, hidden_size]``.

        Raises:
            ValueError: If labels do not fit.
        """
        return MLPEncoder(
            self.hidden_size, self.num_layers, self.activation, self.num_classes, name="mlp"
        )(latent, label)


class ConvEncoder(nn.Module):
    """Images to features: convolutions (3x3, then stride 2) with group normalisation.

    Attributes:
        channels: Channels at the full resolution, doubled at each halving.
        num_halvings: Number of times the resolution is halved.
        num_features: Width of the dense layer at the end.
        num_groups: Number of groups of the group normalisation.
        num_classes: Number of classes, appended one-hot before the last layer, or None.
    """

    channels: int = 32
    num_halvings: int = 2
    num_features: int = 256
    num_groups: int = 8
    num_classes: int | None = None

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B F"]:
        """Looks at images.

        Args:
            x: Images, ``[B, H, W, C]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.

        Returns:
            Features, ``[B, num_features]``.

        Raises:
            ValueError: If the images are too small, or labels do not fit.
        """
        if min(x.shape[1:3]) < 2**self.num_halvings:
            raise ValueError(
                f"images of {x.shape[1]}x{x.shape[2]} cannot be halved {self.num_halvings} times; "
                "lower num_halvings"
            )
        h = x
        for i in range(self.num_halvings):
            for j, stride in enumerate((1, 2)):
                h = Conv(self.channels << i, (3, 3), (stride, stride), name=f"conv_{i}_{j}")(h)
                h = nn.swish(GroupNorm(self.num_groups, name=f"norm_{i}_{j}")(h))
        rows = h.reshape(h.shape[0], -1)
        rows = LabelledLatent(self.num_classes, "concatenation", name="condition")(rows, label)
        return nn.swish(nn.Dense(self.num_features, name="dense")(rows))


class ConvDecoder(nn.Module):
    """Latents to features of each pixel, by transposed convolutions with group normalisation.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``, square, with a side of 4 or 7 times a power
            of two.
        channels: Channels at the full resolution, and of the features.
        num_groups: Number of groups of the group normalisation.
        num_classes: Number of classes, appended one-hot to the latents, or None.
    """

    event_shape: tuple[int, ...]
    channels: int = 32
    num_groups: int = 8
    num_classes: int | None = None

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, latent: Float[Array, "B Z"], label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B H W F"]:
        """Describes what latents stand for.

        Args:
            latent: Latents, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.

        Returns:
            Features, ``[B, H, W, channels]``.

        Raises:
            ValueError: If labels or the image size do not fit.
        """
        doublings = num_doublings(self.event_shape)
        side = self.event_shape[0] >> doublings
        h = LabelledLatent(self.num_classes, "concatenation", name="condition")(latent, label)
        h = nn.Dense(side * side * (self.channels << doublings), name="dense")(h)
        h = nn.swish(h.reshape(-1, side, side, self.channels << doublings))
        for i in reversed(range(doublings)):
            h = ConvTranspose(self.channels << i, (4, 4), (2, 2), name=f"up_{i}")(h)
            h = nn.swish(GroupNorm(self.num_groups, name=f"norm_{i}_0")(h))
            h = Conv(self.channels << i, (3, 3), name=f"conv_{i}")(h)
            h = nn.swish(GroupNorm(self.num_groups, name=f"norm_{i}_1")(h))
        return h


class MLPLayers(nn.Module):
    """Multilayer perceptrons of several layers of latents, from the data up.

    As an encoder the first looks at examples and each further one at the latents below it; as a
    decoder the first describes examples and each further one the latents below it.

    Attributes:
        hidden_sizes: Width of each perceptron.
        num_layers: Number of layers of each.
        activation: ``"relu"``, ``"tanh"`` or ``"swish"``.
        num_classes: Number of classes, appended one-hot, or None for no labels.

    References:
        Burda et al., arXiv:1509.00519, appendix C, where the widths are 200 and 100.
    """

    hidden_sizes: tuple[int, ...] = (200, 100)
    num_layers: int = 2
    activation: Literal["relu", "tanh", "swish"] = "tanh"
    num_classes: int | None = None

    def __post_init__(self) -> None:
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(f"hidden_sizes must be at least 1, got {self.hidden_sizes}")
        super().__post_init__()

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """The perceptrons, from the data up."""
        return tuple(
            MLPEncoder(size, self.num_layers, self.activation, self.num_classes, parent=None)
            for size in self.hidden_sizes
        )
