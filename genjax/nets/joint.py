"""Encoders that play against a critic, and critics of rows together with latents."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.conditioning import BatchNorm
from genjax.nets.convolution import Conv
from genjax.nets.dcgan import num_doublings
from genjax.nets.dense import kernel_init_of

_NORMAL = nn.initializers.normal(0.02)


class _Norm(nn.Module):
    """Batch normalisation without gain and bias, layer normalisation, or none.

    Attributes:
        norm: ``"batch"``, ``"layer"`` or ``"none"``.
    """

    norm: str

    @nn.compact
    def __call__(self, x: Float[Array, "B *place C"], *, train: bool) -> Float[Array, "B *place C"]:
        """Normalises."""
        if self.norm == "none":
            return x
        if self.norm == "layer":
            return nn.LayerNorm(reduction_axes=tuple(range(1, x.ndim)), name="norm")(x)
        return BatchNorm(affine=False, name="norm")(x, train=train)


class JointMLPEncoder(nn.Module):
    """Multilayer perceptron from the entries of an example to features.

    The first layer is not normalised, the others are; LeakyReLU of slope 0.2 follows all.

    Attributes:
        hidden_size: Width of every layer, and of the features.
        num_layers: Number of layers.
        norm: ``"batch"`` (without gain and bias), ``"layer"`` or ``"none"``.
        unit_interval: Whether images in [-1, 1] are seen in [0, 1], where empty pixels are 0 and do
            not all move the first layer together.
        use_bias: Whether layers have biases but where a norm takes them away, and the layer has
            that makes a latent of the features; published code has none.
        kernel_std: Standard deviation of weights at first: 0.02 as published, or None for one by
            the number of inputs.

    References:
        Donahue et al., Adversarial Feature Learning, arXiv:1605.09782, the encoder of MNIST.
    """

    hidden_size: int = 1024
    num_layers: int = 2
    norm: Literal["batch", "layer", "none"] = "batch"
    unit_interval: bool = False
    use_bias: bool = True
    kernel_std: float | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B *event"], *, train: bool = False) -> Float[Array, "B F"]:
        """Looks at examples.

        Args:
            x: Examples, ``[B, *event]``.
            train: Whether to normalise by the batch, else by the running statistics.

        Returns:
            Features, ``[B, hidden_size]``.
        """
        h = x.reshape(x.shape[0], -1)
        h = (h + 1.0) / 2.0 if self.unit_interval else h
        init = kernel_init_of(self.kernel_std)
        for i in range(self.num_layers):
            biased = self.use_bias and (not i or self.norm != "batch")
            h = nn.Dense(self.hidden_size, biased, kernel_init=init, name=f"dense_{i}")(h)
            if i:
                h = _Norm(self.norm, name=f"norm_{i}")(h, train=train)
            h = nn.leaky_relu(h, 0.2)
        return h


class JointMLPCritic(nn.Module):
    """Multilayer perceptron that scores examples together with latents.

    A linear function of the latent is added to layers before norm and LeakyReLU. Where
    weights start by the number of inputs, the latent has a say beside the many entries of a row;
    with the published deviation of 0.02 it has in [0, 1], but hardly in [-1, 1].

    Attributes:
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers.
        norm: ``"batch"`` (without gain and bias) in all layers but the first, ``"layer"`` or
            ``"none"``, which penalties allow.
        unit_interval: Whether images in [-1, 1] are seen in [0, 1], where empty pixels are 0 and do
            not all move the first layer together.
        latent_from: The first layer that the latent is added to, from 0; published code has 1.
        use_bias: Whether layers have biases but where a norm takes them away; published code has
            none.
        kernel_std: Standard deviation of weights at first: 0.02 as published, or None for one by
            the number of inputs.
        zero_output: Whether the last layer starts at zero, as in published code, so that the others
            are not moved by what a random critic says.

    References:
        Donahue et al., arXiv:1605.09782, the discriminator of MNIST.
    """

    hidden_size: int = 1024
    num_layers: int = 2
    norm: Literal["batch", "layer", "none"] = "batch"
    unit_interval: bool = False
    latent_from: int = 0
    use_bias: bool = True
    kernel_std: float | None = None
    zero_output: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *event"], latent: Float[Array, "B Z"], *, train: bool = False
    ) -> Float[Array, " B"]:
        """Scores pairs.

        Args:
            x: Examples, ``[B, *event]``.
            latent: Their latents, ``[B, Z]``.
            train: Whether to normalise by the batch, else by the running statistics.

        Returns:
            One number a pair, ``[B]``. The last layer's inputs are the intermediate ``features``.
        """
        h = x.reshape(x.shape[0], -1)
        h = (h + 1.0) / 2.0 if self.unit_interval else h
        init = kernel_init_of(self.kernel_std)
        for i in range(self.num_layers):
            biased = self.use_bias and (not i or self.norm != "batch")
            h = nn.Dense(self.hidden_size, biased, kernel_init=init, name=f"dense_{i}")(h)
            if i >= self.latent_from:
                name = f"latent_{i}"
                h += nn.Dense(self.hidden_size, use_bias=False, kernel_init=init, name=name)(latent)
            if i:
                h = _Norm(self.norm, name=f"norm_{i}")(h, train=train)
            h = nn.leaky_relu(h, 0.2)
        self.sow("intermediates", "features", h)
        last = nn.initializers.zeros_init() if self.zero_output else init
        output = nn.Dense(1, self.use_bias, kernel_init=last, name="dense_out")(h)
        return output[:, 0].astype(jnp.float32)


class _Convolutions(nn.Module):
    """Strided convolutions (4x4) with LeakyReLU, normalised but for the first."""

    channels: int
    norm: str

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B F"]:
        h, halvings = x, num_doublings(x.shape[1:])
        for i in range(halvings):
            width = self.channels >> (halvings - 1 - i)
            h = Conv(max(1, width), (4, 4), (2, 2), kernel_init=_NORMAL, name=f"conv_{i}")(h)
            if i:
                h = _Norm(self.norm, name=f"norm_{i}")(h, train=train)
            h = nn.leaky_relu(h, 0.2)
        return h.reshape(h.shape[0], -1)


class JointConvEncoder(nn.Module):
    """Images to features: strided convolutions (4x4) with LeakyReLU, and a dense layer.

    Attributes:
        channels: Channels at the lowest resolution, halved at each higher one.
        num_features: Width of the dense layer at the end.
        norm: ``"batch"`` (without gain and bias) in all layers but the first, ``"layer"`` or
            ``"none"``.
    """

    channels: int = 256
    num_features: int = 512
    norm: Literal["batch", "layer", "none"] = "batch"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Float[Array, "B F"]:
        """Looks at images.

        Args:
            x: Images, ``[B, H, W, C]``, square, with a side of 4 or 7 times a power of two.
            train: Whether to normalise by the batch, else by the running statistics.

        Returns:
            Features, ``[B, num_features]``.

        Raises:
            ValueError: If the image size does not fit.
        """
        h = _Convolutions(self.channels, self.norm, name="convolutions")(x, train=train)
        h = nn.Dense(self.num_features, kernel_init=_NORMAL, name="dense")(h)
        return nn.leaky_relu(_Norm(self.norm, name="norm")(h, train=train), 0.2)


class JointConvCritic(nn.Module):
    """Images and latents to a score: convolutions of the image, a layer of the latent, two of both.

    Attributes:
        channels: Channels at the lowest resolution, halved at each higher one.
        num_features: Width of the dense layers.
        norm: ``"batch"`` (without gain and bias) in all layers but the first, ``"layer"`` or
            ``"none"``, which penalties allow.

    References:
        Dumoulin et al., Adversarially Learned Inference, arXiv:1606.00704, appendix A, for how the
        two are joined.
    """

    channels: int = 256
    num_features: int = 512
    norm: Literal["batch", "layer", "none"] = "batch"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], latent: Float[Array, "B Z"], *, train: bool = False
    ) -> Float[Array, " B"]:
        """Scores pairs.

        Args:
            x: Images, ``[B, H, W, C]``, square, with a side of 4 or 7 times a power of two.
            latent: Their latents, ``[B, Z]``.
            train: Whether to normalise by the batch, else by the running statistics.

        Returns:
            One number a pair, ``[B]``. The last layer's inputs are the intermediate ``features``.

        Raises:
            ValueError: If the image size does not fit.
        """
        of_image = _Convolutions(self.channels, self.norm, name="convolutions")(x, train=train)
        layer: Any = nn.Dense(self.num_features, name="latent")
        h = jnp.concatenate([of_image, nn.leaky_relu(layer(latent), 0.2)], axis=-1)
        for i in range(2):
            h = nn.Dense(self.num_features, kernel_init=_NORMAL, name=f"dense_{i}")(h)
            h = nn.leaky_relu(_Norm(self.norm, name=f"norm_{i}")(h, train=train), 0.2)
        self.sow("intermediates", "features", h)
        return nn.Dense(1, kernel_init=_NORMAL, name="dense_out")(h)[:, 0].astype(jnp.float32)
