"""The U-Net of Imagen's upsamplers: nearly all of its work is done at low resolutions."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.convolution import Conv
from genjax.nets.embeddings import (
    NoiseAndLabel,
    check_conditioning,
    check_context,
    check_output,
)
from genjax.nets.normalization import GroupNorm
from genjax.nets.remat import Remat, with_remat
from genjax.nets.unet import Layer, Upsample

_ZEROS = nn.initializers.zeros_init()
_SKIP_SCALE = 1.0 / math.sqrt(2.0)


class EfficientUNet(nn.Module):
    r"""A U-Net with few blocks at high resolutions and many at low ones, for large images.

    Each resolution begins with halving the one before, the first with halving that of the images,
    and ends on the way up with doubling: no residual block ever sees the full resolution. Of each
    resolution one activation goes across, scaled by :math:`1/\sqrt 2`, and so does that of the
    first convolution. Attention, to pixels and to the context, is at the lowest resolution alone.
    All residual branches and the last layer start at zero.

    The activation where the way up begins is its h-space: see :class:`~genjax.nets.UNet`.

    Attributes:
        channels: Channels of the first layer, at the full resolution.
        multipliers: Channels at each resolution as multiples of ``channels``, from half of the full
            one on. Height and width must divide by 2 to the number of resolutions.
        num_blocks: Residual blocks at each resolution, on the way down and again on the way up.
        num_heads: Number of heads of attention; must divide the channels of the lowest resolution.
        num_groups: Number of groups of the group normalisation; must divide ``channels``.
        dropout_rate: Share of activations dropped inside the residual blocks, in [0, 1).
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        num_classes: Number of class labels, or None for an unconditional model.
        context_size: Width of the tokens of a context, or None for no context.
        out_channels: Channels of the output; None for those of ``z_t``.
        add_input: Whether the output is a correction that is added to ``z_t``, which is a good
            first estimate of the noise.
        dtype: ``"float32"`` or ``"bfloat16"`` for the trunk; first and last layer stay float32.
        remat: What the backward pass computes again: ``"none"``, ``"dots"`` (all but the results of
            matrix products and convolutions) or ``"full"`` (each block from its input).

    References:
        Saharia et al., Photorealistic Text-to-Image Diffusion Models with Deep Language
        Understanding, arXiv:2205.11487, appendix B.1, whose upsampler to 256 pixels has the
        defaults here; the way across from the first convolution is not of that paper.
    """

    channels: int = 128
    multipliers: Sequence[int] = (1, 2, 4, 8)
    num_blocks: Sequence[int] = (2, 4, 8, 8)
    num_heads: int = 8
    num_groups: int = 32
    dropout_rate: float = 0.0
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
            >>> EfficientUNet(channels=32, multipliers=(1, 2)).bottleneck_shape((28, 28, 1))
            (7, 7, 64)
        """
        if len(event_shape) != 3:
            raise ValueError(f"expected an image's height, width, channels, got {event_shape}")
        height, width, _ = event_shape
        times = 2 ** len(self.multipliers)
        if height % times or width % times:
            raise ValueError(
                f"{height}x{width} cannot be halved {len(self.multipliers)} times: give fewer "
                f"multipliers than {tuple(self.multipliers)}, or images of another size"
            )
        return height // times, width // times, self.channels * self.multipliers[-1]

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
            delta_h: What is added to the activation of the lowest resolution, of the shape that
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
        widths = [self.channels * multiplier for multiplier in self.multipliers]
        last = len(widths) - 1

        def blocks(h: Array, level: int, way: str) -> Array:
            for i in range(self.num_blocks[level]):
                h = layer(
                    channels=widths[level],
                    conditioning="scale_shift",
                    with_attention=level == last,
                    num_heads=self.num_heads,
                    num_groups=self.num_groups,
                    dropout_rate=self.dropout_rate,
                    dtype=dtype,
                    name=f"{way}_{level}_{i}",
                )(h, condition, context, deterministic)
            return h

        def joined(h: Array, skip: Array) -> Array:
            return jnp.concatenate([h, _SKIP_SCALE * skip], axis=-1)

        h = Conv(self.channels, (3, 3), dtype=jnp.float32, name="conv_in")(z_t).astype(dtype)
        skips = [h]
        for level, width in enumerate(widths):
            h = Conv(width, (3, 3), strides=(2, 2), dtype=dtype, name=f"downsample_{level}")(h)
            h = blocks(h, level, "down")
            skips.append(h)
        skips.pop()  # the way up begins with it
        self.sow("intermediates", "h", h)
        if delta_h is not None:
            h += delta_h.astype(dtype)
        for level in reversed(range(last + 1)):
            h = blocks(h, level, "up")
            h = Upsample(widths[max(level - 1, 0)], dtype, name=f"upsample_{level}")(h)
            h = joined(h, skips.pop())

        h = nn.swish(GroupNorm(self.num_groups, dtype=jnp.float32, name="norm_out")(h))
        out = self.out_channels or z_t.shape[-1]
        y = Conv(out, (3, 3), kernel_init=_ZEROS, dtype=jnp.float32, name="conv_out")(h)
        return z_t + y if self.add_input else y

    def _check(
        self, z_t: Array, label: Array | None, context: Array | None, delta_h: Array | None
    ) -> None:
        if z_t.ndim != 4:
            raise ValueError(f"expected images [B, H, W, C], got shape {z_t.shape}")
        counts: dict[str, Any] = {"multipliers": self.multipliers, "num_blocks": self.num_blocks}
        for name, numbers in counts.items():
            if not numbers or min(numbers) < 1:
                raise ValueError(f"{name} must be at least 1 each, got {tuple(numbers)}")
        if len(self.multipliers) != len(self.num_blocks):
            raise ValueError(
                "expected as many num_blocks as multipliers, one for each resolution, got "
                f"{tuple(self.num_blocks)} and {tuple(self.multipliers)}"
            )
        for name in ("channels", "num_heads", "num_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
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
