"""Networks that translate images: U-Net and residual generators, and critics of patches."""

from typing import Any, Literal, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.conditioning import BatchNorm, apply_layer
from genjax.nets.convolution import Conv, ConvTranspose
from genjax.nets.dropout import Dropout
from genjax.nets.normalization import GroupNorm

Norm: TypeAlias = Literal["instance", "batch", "none"]

# Both papers: all weights start as normals of deviation 0.02.
_NORMAL = nn.initializers.normal(0.02)


class _Norm(nn.Module):
    """Normalisation by the image itself, by the batch, or none."""

    norm: Norm
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if self.norm == "batch":
            return BatchNorm(None, self.dtype, name="batch")(x, train=train)
        # A single place is its own mean, and would become zero.
        if self.norm == "instance" and x.shape[1:3] != (1, 1):
            return GroupNorm(x.shape[-1], epsilon=1e-5, dtype=self.dtype, name="instance")(x)
        return x


def _check_images(x: Array, norm: str) -> None:
    if x.ndim != 4:
        raise ValueError(f"expected images [B, H, W, C], got shape {x.shape}")
    if norm not in ("instance", "batch", "none"):
        raise ValueError(f"norm must be 'instance', 'batch' or 'none', got {norm!r}")


def _reflected(x: Array, width: int) -> Array:
    """Adds so many mirrored places at each side."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)), mode="reflect")


class UNetTranslator(nn.Module):
    """The U-Net of pix2pix: down to a bottleneck and up again, with shortcuts at each resolution.

    Convolutions (4x4, stride 2) halve the image, rounded up, and transposed ones double it, less
    the row and column that a shortcut has not: any size will do. Shortcuts join channels. The only
    noise is dropout in the first layers of the way up, which the paper keeps on in samples.

    Attributes:
        event_shape: Shape of the images it makes, ``(H, W, C)``.
        channels: Channels after the first convolution; they double up to 8 times as many.
        num_halvings: How often the size is halved: 8 at 256 pixels in the paper, which ends at a
            single place; 5 do so at 17 to 32 pixels.
        norm: Normalisation of all layers but the first, the one at the bottleneck and the last. The
            paper's batch normalisation of batches of one image is ``"instance"``.
        dropout_rate: Share of activations to zero in training, in [0, 1).
        num_dropout: Layers with dropout, from the bottleneck on; fewer where there are fewer.
        dtype: The precision of the convolutions.

    References:
        Isola et al., Image-to-Image Translation with Conditional Adversarial Networks,
        arXiv:1611.07004, sections 3.2.1 and 6.1.1; Ronneberger et al., arXiv:1505.04597.
    """

    event_shape: tuple[int, ...]
    channels: int = 64
    num_halvings: int = 5
    norm: Norm = "instance"
    dropout_rate: float = 0.5
    num_dropout: int = 3
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, source: Float[Array, "B H W C"], *, train: bool = False
    ) -> Float[Array, "B H W C2"]:
        """Translates images to images in [-1, 1], float32.

        Args:
            source: Images in [-1, 1], ``[B, H, W, C]``.
            train: Whether to normalise by the batch and drop activations, for which the random
                stream ``dropout`` is needed.

        Returns:
            Images of the same size, ``[B, H, W, event_shape[-1]]``.

        Raises:
            ValueError: If the image cannot be halved so often, or an attribute is out of range.
        """
        _check_images(source, self.norm)
        if self.num_halvings < 1 or max(source.shape[1:3]) <= 2 ** (self.num_halvings - 1):
            raise ValueError(
                f"num_halvings must be at least 1, and a side of {max(source.shape[1:3])} be more "
                f"than 1 before the last halving, got {self.num_halvings}"
            )
        dtype = jnp.dtype(self.dtype)
        widths = [self.channels * min(2**i, 8) for i in range(self.num_halvings)]
        h, skips, last = source.astype(dtype), [], self.num_halvings - 1
        for i, width in enumerate(widths):
            normed = 0 < i < last and self.norm != "none"
            conv: Any = dict(kernel_init=_NORMAL, dtype=dtype, name=f"down_{i}")
            # A normalisation takes away what a bias adds.
            h = Conv(width, (4, 4), (2, 2), use_bias=not normed, **conv)(
                nn.leaky_relu(h, 0.2) if i else h
            )
            if normed:
                h = _Norm(self.norm, dtype, name=f"down_norm_{i}")(h, train=train)
            skips.append(h)
        skips.pop()
        for count, i in enumerate(reversed(range(1, self.num_halvings))):
            skip = skips.pop()
            h = ConvTranspose(
                widths[i - 1],
                (4, 4),
                (2, 2),
                use_bias=self.norm == "none",
                kernel_init=_NORMAL,
                dtype=dtype,
                name=f"up_{i}",
            )(nn.relu(h))[:, : skip.shape[1], : skip.shape[2]]
            h = _Norm(self.norm, dtype, name=f"up_norm_{i}")(h, train=train)
            if count < self.num_dropout:
                h = Dropout(self.dropout_rate)(h, deterministic=not train)
            h = jnp.concatenate([h, skip], axis=-1)
        h = ConvTranspose(
            self.event_shape[-1], (4, 4), (2, 2), kernel_init=_NORMAL, dtype=dtype, name="up_0"
        )(nn.relu(h))[:, : source.shape[1], : source.shape[2]]
        return jnp.tanh(h.astype(jnp.float32))


class ResNetTranslator(nn.Module):
    """The generator of CycleGAN: a few halvings, residual blocks, and as many doublings.

    Borders are mirrored, the first and the last convolution see 7x7 places, all others 3x3. With
    the defaults, which the paper has at 256 pixels, and 3 channels, 11.4 million parameters.

    Attributes:
        event_shape: Shape of the images it makes, ``(H, W, C)``.
        channels: Channels at full resolution, doubled at each halving.
        num_halvings: How often the size is halved; the sides must be so many times even.
        num_blocks: Residual blocks at the lowest resolution: 9 in the paper, 6 at 128 pixels.
        norm: Normalisation of all layers but the last.
        dtype: The precision of the convolutions.

    References:
        Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks,
        arXiv:1703.10593, section 7.2; Johnson et al., arXiv:1603.08155.
    """

    event_shape: tuple[int, ...]
    channels: int = 64
    num_halvings: int = 2
    num_blocks: int = 9
    norm: Norm = "instance"
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self, source: Float[Array, "B H W C"], *, train: bool = False
    ) -> Float[Array, "B H W C2"]:
        """Translates images to images in [-1, 1], float32.

        Args:
            source: Images in [-1, 1], ``[B, H, W, C]``.
            train: Whether to normalise by the batch, where there is such a normalisation.

        Returns:
            Images of the same size, ``[B, H, W, event_shape[-1]]``.

        Raises:
            ValueError: If the sides do not halve so often, or the norm is unknown.
        """
        _check_images(source, self.norm)
        factor = 2**self.num_halvings
        if source.shape[1] % factor or source.shape[2] % factor:
            raise ValueError(
                f"num_halvings is {self.num_halvings}: expected sides divisible by {factor}, got "
                f"{source.shape[1:3]}"
            )
        dtype = jnp.dtype(self.dtype)
        options: Any = dict(kernel_init=_NORMAL, dtype=dtype, use_bias=self.norm == "none")

        def normed(h: Array, name: str) -> Array:
            return _Norm(self.norm, dtype, name=f"{name}_norm")(h, train=train)

        h = Conv(self.channels, (7, 7), padding="VALID", name="conv_in", **options)(
            _reflected(source.astype(dtype), 3)
        )
        h = nn.relu(normed(h, "conv_in"))
        for i in range(self.num_halvings):
            width = self.channels * 2 ** (i + 1)
            h = Conv(width, (3, 3), (2, 2), name=f"down_{i}", **options)(h)
            h = nn.relu(normed(h, f"down_{i}"))
        for i in range(self.num_blocks):
            y = h
            for j in range(2):
                name = f"block_{i}_{j}"
                y = Conv(y.shape[-1], (3, 3), padding="VALID", name=name, **options)(
                    _reflected(y, 1)
                )
                y = normed(y, name)
                y = y if j else nn.relu(y)
            h = h + y
        for i in reversed(range(self.num_halvings)):
            width = self.channels * 2**i
            h = ConvTranspose(width, (3, 3), (2, 2), name=f"up_{i}", **options)(h)
            h = nn.relu(normed(h, f"up_{i}"))
        y = Conv(
            self.event_shape[-1], (7, 7), padding="VALID", kernel_init=_NORMAL, dtype=dtype,
            name="conv_out",
        )(_reflected(h, 3))  # fmt: skip
        return jnp.tanh(y.astype(jnp.float32))


class PatchCritic(nn.Module):
    """A critic that judges overlapping patches of an image, one by one, by the same convolutions.

    Convolutions of 4x4: ``num_layers`` with stride 2, then two with stride 1, the last of which
    gives one number a place. A number sees a patch of 16, 34, 70 or 142 pixels for 1 to 4 layers;
    without any it sees its pixel alone (convolutions of 1x1).

    Attributes:
        channels: Channels after the first convolution; they double up to 8 times as many.
        num_layers: Layers with stride 2; 3, the papers' choice, is for images of 256 pixels.
        norm: Normalisation of all layers but the first and the last.
        spectral_norm: Whether to normalise the weights of every layer.
        dtype: The precision of the convolutions.

    References:
        Isola et al., arXiv:1611.07004, sections 3.2.2 and 6.1.2.
    """

    channels: int = 64
    num_layers: int = 3
    norm: Norm = "instance"
    spectral_norm: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool = False) -> Array:
        """Scores the patches of images.

        Args:
            x: Images in [-1, 1], or images and what they were made from side by side in the last
                axis, ``[B, H, W, C]``.
            train: Whether to normalise by the batch, and to move power iterations on.

        Returns:
            Outputs, one a patch, ``[B, H', W']``, float32.

        Raises:
            ValueError: If the image is smaller than what the layers need, or the norm is unknown.
        """
        _check_images(x, self.norm)
        side = min(x.shape[1:3]) >> self.num_layers
        if self.num_layers and side < 3:
            raise ValueError(
                f"a critic of {self.num_layers} layers with stride 2 needs sides of at least "
                f"{3 << self.num_layers}, got {x.shape[1:3]}: set num_layers lower"
            )
        dtype, pixel = jnp.dtype(self.dtype), self.num_layers == 0
        taps, pads = ((1, 1), ((0, 0),) * 2) if pixel else ((4, 4), ((1, 1),) * 2)
        strides = [1, 1] if pixel else [2] * self.num_layers + [1]
        h = x.astype(dtype)
        for i, stride in enumerate(strides):
            name, normed = f"conv_{i}", i > 0 and self.norm != "none"
            conv = Conv(
                self.channels * min(2**i, 8), taps, (stride, stride), pads,
                use_bias=not normed, kernel_init=_NORMAL, dtype=dtype, name=name,
            )  # fmt: skip
            h = apply_layer(conv, h, spectral_norm=self.spectral_norm, train=train, name=name)
            if normed:
                h = _Norm(self.norm, dtype, name=f"norm_{i}")(h, train=train)
            h = nn.leaky_relu(h, 0.2)
        out = Conv(1, taps, (1, 1), pads, kernel_init=_NORMAL, dtype=dtype, name="conv_out")
        h = apply_layer(out, h, spectral_norm=self.spectral_norm, train=train, name="conv_out")
        return h[..., 0].astype(jnp.float32)
