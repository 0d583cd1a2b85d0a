"""A U-Net: residual blocks and attention at several resolutions, for diffusion models."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.attention import attention
from genjax.nets.convolution import Conv, conv_transpose
from genjax.nets.dropout import Dropout
from genjax.nets.embeddings import (
    NoiseAndLabel,
    check_conditioning,
    check_context,
    check_output,
    fourier_features,
)
from genjax.nets.normalization import GroupNorm
from genjax.nets.remat import Remat, with_remat

_ZEROS = nn.initializers.zeros_init()

Conditioning: TypeAlias = Literal["scale_shift", "add"]


class ResidualBlock(nn.Module):
    """Norm, swish, convolution, twice, and the condition at the second norm if there is one.

    Attributes:
        channels: Output channels; a linear shortcut is learned if the input has others.
        conditioning: As of :class:`UNet`.
        num_groups: Number of groups of the group normalisation.
        dropout_rate: Share of activations dropped before the second convolution, in [0, 1).
        dtype: The precision of the computation.
    """

    channels: int
    conditioning: Conditioning
    num_groups: int
    dropout_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, condition: Array | None, deterministic: bool) -> Array:
        """Maps ``[B, H, W, C]`` and a condition ``[B, D]`` to ``[B, H, W, channels]``."""
        h = nn.swish(GroupNorm(self.num_groups, dtype=self.dtype, name="norm_0")(x))
        h = Conv(self.channels, (3, 3), dtype=self.dtype, name="conv_0")(h)
        norm = GroupNorm(self.num_groups, dtype=self.dtype, name="norm_1")
        if condition is None:
            h = norm(h)
        elif self.conditioning == "add":
            added = nn.Dense(self.channels, dtype=self.dtype, name="add")(condition)
            h = norm(h + added[:, None, None, :])
        else:
            film = nn.Dense(2 * self.channels, kernel_init=_ZEROS, dtype=self.dtype, name="film")
            scale, shift = jnp.split(film(condition), 2, axis=-1)
            h = norm(h, (scale, shift))
        h = Dropout(self.dropout_rate)(nn.swish(h), deterministic=deterministic)
        h = Conv(self.channels, (3, 3), kernel_init=_ZEROS, dtype=self.dtype, name="conv_1")(h)
        if x.shape[-1] != self.channels:
            x = Conv(self.channels, (1, 1), dtype=self.dtype, name="shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """Residual attention of all pixels to each other or to tokens; softmax in float32.

    Attributes:
        num_heads: Number of heads; must divide the channels.
        num_groups: Number of groups of the group normalisation.
        dtype: The precision of the computation.
    """

    num_heads: int
    num_groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, tokens: Array | None = None) -> Array:
        """Maps ``[B, H, W, C]`` to the same shape; keys and values are of ``tokens`` if given."""
        batch, height, width, channels = x.shape
        if channels % self.num_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must divide the channels of attention ({channels})"
            )

        def project(inputs: Array, number: int, name: str) -> list[Array]:
            joined = nn.Dense(number * channels, dtype=self.dtype, name=name)(inputs)
            heads = (batch, joined.shape[1], self.num_heads, channels // self.num_heads)
            return [part.reshape(heads) for part in jnp.split(joined, number, axis=-1)]

        h = GroupNorm(self.num_groups, dtype=self.dtype, name="norm")(x)
        h = h.reshape(batch, height * width, channels)
        if tokens is None:
            query, key, value = project(h, 3, "query_key_value")
        else:
            (query,) = project(h, 1, "query")
            key, value = project(tokens, 2, "key_value")
        h = attention(query, key, value).reshape(x.shape)
        return x + nn.Dense(channels, kernel_init=_ZEROS, dtype=self.dtype, name="out")(h)


class Layer(nn.Module):
    """A residual block and, where asked for, attention to the pixels and to the context after it.

    Attributes:
        channels: Output channels.
        conditioning: As of :class:`UNet`.
        with_attention: Whether attention follows the residual block.
        num_heads: Number of heads of attention.
        num_groups: Number of groups of the group normalisation.
        dropout_rate: Share of activations dropped in the residual block, in [0, 1).
        dtype: The precision of the computation.
    """

    channels: int
    conditioning: Conditioning
    with_attention: bool
    num_heads: int
    num_groups: int
    dropout_rate: float
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Array, condition: Array, context: Array | None, deterministic: bool
    ) -> Array:
        """Maps ``[B, H, W, C]`` to ``[B, H, W, channels]``."""
        x = ResidualBlock(
            self.channels,
            self.conditioning,
            self.num_groups,
            self.dropout_rate,
            self.dtype,
            name="residual",
        )(x, condition, deterministic)
        if self.with_attention:
            fields = (self.num_heads, self.num_groups, self.dtype)
            x = AttentionBlock(*fields, name="attention")(x)
            if context is not None:
                x = AttentionBlock(*fields, name="cross_attention")(x, context)
        return x


class Upsample(nn.Module):
    """Doubles height and width by repeating each pixel, and convolves 3x3.

    Attributes:
        channels: Output channels.
        dtype: The precision of the computation.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[B, H, W, C]`` to ``[B, 2 H, 2 W, channels]``."""
        shape = (3, 3, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", _ZEROS, shape[-1:], jnp.float32)
        # Repeating pixels is a transposed convolution with a 2x2 kernel of ones. With the 3x3
        # kernel after it that is one of 4x4, the two kernels' convolution, which needs 4 products
        # for an output where the other needs 9.
        places = [((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)) for i in (0, 1) for j in (0, 1)]
        kernel = jnp.sum(jnp.stack([jnp.pad(kernel, place) for place in places]), axis=0)
        y = conv_transpose(
            x.astype(self.dtype), kernel.astype(self.dtype), (2, 2), ((2, 2), (2, 2))
        )
        return y + bias.astype(self.dtype)


class UNet(nn.Module):
    r"""Predicts a function of a noisy image: the noise in it, the image itself, a velocity.

    ``num_blocks`` residual blocks at each of ``len(multipliers)`` resolutions, each half the one
    before; two blocks around a self-attention at the last; ``num_blocks + 1`` blocks at each
    resolution on the way up, which take the activations of the way down in reverse. The condition
    is gamma and the label. All residual branches and the last layer start at zero.

    What comes out of the middle, the activation of the lowest resolution, is the h-space of Kwon et
    al. It is kept as the intermediate ``h`` (``apply(..., mutable="intermediates")`` gives
    ``{"intermediates": {"h": (h,)}}``), before ``delta_h`` is added to it.

    Attributes:
        channels: Channels at the full resolution.
        multipliers: Channels at each resolution as multiples of ``channels``, from the full one.
            Height and width must divide by 2 to the number of resolutions less one.
        num_blocks: Residual blocks at each resolution on the way down.
        attention_sizes: Heights of the resolutions at which self-attention follows each residual
            block; heights that no resolution has are ignored. The middle always has attention.
        num_heads: Number of heads of attention; must divide the channels where there is attention.
        num_groups: Number of groups of the group normalisation; must divide ``channels``.
        conditioning: How the condition acts on a residual block: it scales and shifts the channels
            after the second norm (``"scale_shift"``), or is added before it (``"add"``).
        dropout_rate: Share of activations dropped inside the residual blocks, in [0, 1).
        fourier_exponents: Exponents of the Fourier features of ``z_t``; () for none.
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        num_classes: Number of class labels, or None for an unconditional model.
        context_size: Width of the tokens that attention over a context follows each self-attention
            for, or None for no context.
        out_channels: Channels of the output; None for those of ``z_t``.
        add_input: Whether the output is a correction that is added to ``z_t``, which is a good
            first estimate of the noise.
        dtype: ``"float32"`` or ``"bfloat16"`` for the trunk; first and last layer stay float32.
        remat: What the backward pass computes again: ``"none"``, ``"dots"`` (all but the results of
            matrix products and convolutions) or ``"full"`` (each block from its input).

    References:
        Ho et al., Denoising Diffusion Probabilistic Models, arXiv:2006.11239, appendix B, whose
        condition is added; Dhariwal and Nichol, arXiv:2105.05233, section 3, for scale and shift
        and for several heads; Kwon et
        al., Diffusion Models Already Have a Semantic Latent Space, arXiv:2210.10960, section 3.
    """

    channels: int = 64
    multipliers: Sequence[int] = (1, 2, 2)
    num_blocks: int = 2
    attention_sizes: Sequence[int] = (7, 8, 14, 16)
    num_heads: int = 1
    num_groups: int = 32
    conditioning: Conditioning = "scale_shift"
    dropout_rate: float = 0.1
    fourier_exponents: Sequence[int] = ()
    gamma_min: float = -13.3
    gamma_max: float = 5.0
    num_classes: int | None = None
    context_size: int | None = None
    out_channels: int | None = None
    add_input: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    def bottleneck_shape(self, event_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The shape of the h-space of one example.

        Args:
            event_shape: Height, width and channels of an image.

        Returns:
            Height, width and channels of ``h``, and of ``delta_h``.

        Raises:
            ValueError: If there are not three axes, or a resolution cannot be halved.

        Example:
            >>> UNet(channels=32, multipliers=(1, 2, 4)).bottleneck_shape((28, 28, 1))
            (7, 7, 128)
        """
        if len(event_shape) != 3:
            raise ValueError(f"expected an image's height, width, channels, got {event_shape}")
        height, width, _ = event_shape
        for level in range(1, len(self.multipliers)):
            if height % 2 or width % 2:
                raise ValueError(
                    f"{height}x{width}, resolution {level} of {len(self.multipliers)}, cannot be "
                    f"halved: give fewer multipliers than {tuple(self.multipliers)}, or images of "
                    f"another size than {event_shape[0]}x{event_shape[1]}"
                )
            height, width = height // 2, width // 2
        return height, width, self.channels * self.multipliers[-1]

    @nn.compact
    def __call__(
        self,
        z_t: Float[Array, "B H W C"],
        gamma_t: Float[Array, " B"],
        label: Int[Array, " B"] | None = None,
        context: Float[Array, "B T K"] | None = None,
        delta_h: Float[Array, "B h w c"] | None = None,
        features: Float[Array, "B F"] | None = None,
        *,
        vector: Float[Array, "B V"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "B H W O"]:
        """Estimates what the network is trained to.

        Args:
            z_t: Latent, ``[B, H, W, C]``.
            gamma_t: Negative log signal-to-noise ratio, or any other measure of noise that
                ``gamma_min`` and ``gamma_max`` fit, ``[B]``.
            label: Class ids, ``[B]``, -1 for no label; needed if and only if ``num_classes`` is
                set.
            context: Tokens, ``[B, T, context_size]``; needed if and only if ``context_size`` is
                set.
            delta_h: What is added to the activation in the middle, of the shape that
                :meth:`bottleneck_shape` says; None for nothing.
            features: Numbers that the condition depends on besides, ``[B, F]``, such as features of
                the noise on what the network is told; None for none.
            vector: A vector of each example, such as an embedding of the image, ``[B, V]``, which
                is added to what gamma and label give; zeros tell nothing. None for none.
            deterministic: Turns dropout off.

        Returns:
            The estimate, float32, ``[B, H, W, out_channels]``.

        Raises:
            ValueError: If ranks, labels, contexts or sizes do not fit.
        """
        self._check(z_t, label, context, delta_h)
        dtype = jnp.dtype(self.dtype)
        condition = NoiseAndLabel(
            self.channels,
            4 * self.channels,
            self.gamma_min,
            self.gamma_max,
            self.num_classes,
            name="condition",
        )(gamma_t, label, features, vector).astype(dtype)
        if context is not None:
            context = context.astype(dtype)
        layer = with_remat(Layer, self.remat, static_argnums=(4,))

        def block(h: Array, level: int, name: str, with_attention: bool | None = None) -> Array:
            if with_attention is None:
                with_attention = h.shape[1] in self.attention_sizes
            return layer(
                channels=self.channels * self.multipliers[level],
                conditioning=self.conditioning,
                with_attention=with_attention,
                num_heads=self.num_heads,
                num_groups=self.num_groups,
                dropout_rate=self.dropout_rate,
                dtype=dtype,
                name=name,
            )(h, condition, context, deterministic)

        pixels = jnp.concatenate(
            [z_t, fourier_features(z_t, tuple(self.fourier_exponents))], axis=-1
        )
        h = Conv(self.channels, (3, 3), dtype=jnp.float32, name="conv_in")(pixels).astype(dtype)
        skips, last = [h], len(self.multipliers) - 1
        for level in range(last + 1):
            for i in range(self.num_blocks):
                h = block(h, level, f"down_{level}_{i}")
                skips.append(h)
            if level < last:
                h = Conv(
                    h.shape[-1], (3, 3), strides=(2, 2), dtype=dtype, name=f"downsample_{level}"
                )(h)  # fmt: skip
                skips.append(h)
        h = block(h, last, "mid_0", with_attention=True)
        h = block(h, last, "mid_1", with_attention=False)
        self.sow("intermediates", "h", h)
        if delta_h is not None:
            h += delta_h.astype(dtype)
        for level in reversed(range(last + 1)):
            for i in range(self.num_blocks + 1):
                h = block(jnp.concatenate([h, skips.pop()], -1), level, f"up_{level}_{i}")
            if level:
                h = Upsample(h.shape[-1], dtype, name=f"upsample_{level}")(h)

        h = nn.swish(GroupNorm(self.num_groups, dtype=jnp.float32, name="norm_out")(h))
        channels = self.out_channels or z_t.shape[-1]
        y = Conv(channels, (3, 3), kernel_init=_ZEROS, dtype=jnp.float32, name="conv_out")(h)
        return z_t + y if self.add_input else y

    def _check(
        self, z_t: Array, label: Array | None, context: Array | None, delta_h: Array | None
    ) -> None:
        if z_t.ndim != 4:
            raise ValueError(f"expected images [B, H, W, C], got shape {z_t.shape}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"multipliers must be at least 1, got {tuple(self.multipliers)}")
        for name in ("channels", "num_blocks", "num_heads", "num_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.conditioning not in get_args(Conditioning):
            raise ValueError(
                f"conditioning must be one of {get_args(Conditioning)}, got {self.conditioning!r}"
            )
        if self.channels % self.num_groups:
            raise ValueError(
                f"num_groups ({self.num_groups}) must divide channels ({self.channels})"
            )
        check_conditioning(self.gamma_min, self.gamma_max, self.num_classes, label)
        check_context(self.context_size, context)
        check_output(z_t, self.out_channels, self.add_input)
        inner = self.bottleneck_shape(z_t.shape[1:])
        if delta_h is not None and delta_h.shape != (len(z_t), *inner):
            raise ValueError(
                f"expected delta_h of shape {(len(z_t), *inner)} for images of shape "
                f"{z_t.shape[1:]} (see bottleneck_shape), got {delta_h.shape}"
            )
