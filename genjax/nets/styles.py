"""Generators that turn a latent into styles first, and images out of styles."""

import abc
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.dcgan import num_doublings
from genjax.nets.embeddings import check_label
from genjax.nets.equalized import EqualizedDense, normalized, scaled_leaky_relu

STYLES = "styles"
"""Variable collection of the mean style."""
NOISE = "noise"
"""Random stream of the noise of single pixels, and of what styles are mixed with."""


def channels_at(side: int, base_channels: int, max_channels: int) -> int:
    """Channels of layers whose images have a side of so many pixels.

    Args:
        side: Side of the image; of 7, 14, 28 and so on the next power of two counts.
        base_channels: Channels times side, where that is below the limit.
        max_channels: The limit.

    Returns:
        The number of channels, 1 at least.

    Example:
        >>> [channels_at(side, 512, 64) for side in (4, 8, 16, 32)]
        [64, 64, 32, 16]
        >>> channels_at(28, 512, 64)
        16
    """
    return max(1, min(base_channels // (1 << (side - 1).bit_length()), max_channels))


class Mapping(nn.Module):
    """Dense layers from a latent, a label or both to a vector; its running mean is network state.

    Attributes:
        features: Length of the vector, and width of the layers.
        num_layers: Number of layers.
        num_classes: Number of classes, or None for no labels.
        multiplier: Factor of the layers' learning rates.
        mean_decay: Decay of the running mean, for each training pass; None for none.
    """

    features: int
    num_layers: int
    num_classes: int | None
    multiplier: float
    mean_decay: float | None = None

    @nn.compact
    def __call__(
        self,
        latent: Float[Array, "B Z"] | None,
        label: Int[Array, " B"] | None = None,
        *,
        update: bool = False,
    ) -> Float[Array, "B W"]:
        """Maps each row.

        Args:
            latent: Latents, ``[B, Z]``, of which only the direction counts; None for none.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            update: Whether the running mean takes these rows in, where state may change.

        Returns:
            Vectors, ``[B, features]``, float32.

        Raises:
            ValueError: If a label is missing, or given to an unconditional network.

        References:
            Karras et al., arXiv:1812.04948, section 2; labels as in NVlabs/stylegan2-ada-pytorch.
        """
        check_label(self.num_classes, label)
        parts = []
        if latent is not None:
            parts.append(normalized(latent.astype(jnp.float32)))
        if self.num_classes is not None:
            classes = jax.nn.one_hot(label, self.num_classes)
            parts.append(normalized(EqualizedDense(self.features, name="label")(classes)))
        w = jnp.concatenate(parts, axis=-1)
        for i in range(self.num_layers):
            layer = EqualizedDense(self.features, self.multiplier, name=f"dense_{i}")
            w = scaled_leaky_relu(layer(w))
        if self.mean_decay is not None:
            mean = self.variable(STYLES, "mean", jnp.zeros, (self.features,), jnp.float32)
            if update and not self.is_initializing() and self.is_mutable_collection(STYLES):
                batch_mean = jax.lax.stop_gradient(jnp.mean(w, axis=0))
                mean.value = batch_mean + self.mean_decay * (mean.value - batch_mean)
        return w


class StyleGenerator(nn.Module, abc.ABC):
    """What generators of styles share: from latents to one style vector for each layer.

    ``mapping`` makes styles and ``synthesis`` images of them; to edit a sample, change its styles
    in between: ``generator.apply(variables, latent, method="mapping")``.

    Attributes:
        event_shape: Shape of the images, ``(H, W, C)``, square, with a side of 4 or 7 times a power
            of two.
        base_channels: Channels times side of the image, up to ``max_channels``.
        max_channels: Most channels of a layer.
        style_size: Length of a style vector, and width of the mapping network.
        num_mapping_layers: Layers of the mapping network: 8 in the papers, 2 for CIFAR-10.
        mapping_multiplier: Factor of the mapping network's learning rate.
        mixing_probability: Share of training rows whose later layers take the style of another
            latent, from a layer on that is drawn for each row.
        mean_decay: Decay of the running mean of styles, for each training pass.
        truncation: What is left of a sample's distance to the mean style (psi); read outside of
            training only.
        truncated_layers: First layers that are truncated; None for all.
        num_classes: Number of classes, or None for an unconditional model.
        dtype: The precision of the convolutions.

    Raises:
        ValueError: If a share, a decay or the truncation is out of range.
    """

    event_shape: tuple[int, ...]
    base_channels: int = 32_768
    max_channels: int = 512
    style_size: int = 512
    num_mapping_layers: int = 8
    mapping_multiplier: float = 0.01
    mixing_probability: float = 0.9
    mean_decay: float = 0.995
    truncation: float = 1.0
    truncated_layers: int | None = None
    num_classes: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("mixing_probability", "mean_decay"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("truncation", "truncated_layers"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.mapping_multiplier > 0:
            raise ValueError(f"mapping_multiplier must be positive, got {self.mapping_multiplier}")
        super().__post_init__()

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @property
    def num_styles(self) -> int:
        """Layers that take a style: two for each resolution."""
        return 2 * num_doublings(self.event_shape) + 2

    def setup(self) -> None:
        """Makes the two networks."""
        self.mapping_net = Mapping(
            features=self.style_size,
            num_layers=self.num_mapping_layers,
            num_classes=self.num_classes,
            multiplier=self.mapping_multiplier,
            mean_decay=self.mean_decay,
        )
        self.synthesis_net = self.make_synthesis()

    @abc.abstractmethod
    def make_synthesis(self) -> nn.Module:
        """The network from styles ``[B, L, W]`` to images."""

    def mapping(
        self,
        latent: Float[Array, "B Z"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "B L S"]:
        """Styles of latents, one for each layer.

        In training they are mixed, where there is a random stream ``noise``, and move the mean
        style; those they are mixed with do not. Otherwise they are truncated.

        Args:
            latent: Draws of the latent distribution, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Whether this is a pass of training.

        Returns:
            Styles, ``[B, num_styles, style_size]``.

        References:
            Mixing and truncation: Karras et al., arXiv:1812.04948, sections 3.1 and B. There one
            layer is drawn for all rows of a batch; one for each row does not depend on how rows are
            spread over devices.
        """
        w = self.mapping_net(latent, label, update=train)
        layers = jnp.arange(self.num_styles)[:, None]
        styles = jnp.broadcast_to(w[:, None], (w.shape[0], self.num_styles, w.shape[1]))
        if train and self.mixing_probability > 0 and self.has_rng(NOISE):
            key_other, key_mixed, key_layer = jax.random.split(self.make_rng(NOISE), 3)
            other = jax.random.normal(key_other, latent.shape)
            mixed = jax.random.uniform(key_mixed, w.shape[:1]) < self.mixing_probability
            first = jax.random.randint(key_layer, w.shape[:1], 1, self.num_styles)
            later = mixed[:, None, None] & (layers >= first[:, None, None])
            return jnp.where(later, self.mapping_net(other, label)[:, None], styles)
        if not train and self.truncation != 1.0:
            mean: Array = self.mapping_net.get_variable(STYLES, "mean")
            near = mean + self.truncation * (styles - mean)
            last = self.num_styles if self.truncated_layers is None else self.truncated_layers
            return jnp.where(layers < last, near, styles)
        return styles

    def synthesis(self, styles: Float[Array, "B L S"]) -> Float[Array, "B H W C"]:
        """Images of styles, about in [-1, 1], float32.

        Noise of single pixels is drawn where there is a random stream ``noise``; without it there
        is none.

        Args:
            styles: One style vector for each layer, ``[B, num_styles, style_size]``.

        Returns:
            Images, ``[B, H, W, C]``.
        """
        return self.synthesis_net(styles)

    def __call__(
        self,
        latent: Float[Array, "B Z"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "B H W C"]:
        """Generates images about in [-1, 1], float32: ``mapping``, then ``synthesis``.

        Args:
            latent: Draws of the latent distribution, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Whether styles are mixed and move their mean; else they are truncated.

        Returns:
            Images, ``[B, H, W, C]``.

        Raises:
            ValueError: If labels or the image size do not fit.
        """
        return self.synthesis(self.mapping(latent, label, train=train))
