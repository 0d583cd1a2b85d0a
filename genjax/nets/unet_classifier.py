"""A classifier of noisy images: the way down of a U-Net, and attention that pools its pixels."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from genjax.nets.attention import attention
from genjax.nets.convolution import Conv
from genjax.nets.embeddings import NoiseAndLabel
from genjax.nets.normalization import GroupNorm
from genjax.nets.remat import Remat, with_remat
from genjax.nets.unet import Layer, UNet


class AttentionPool(nn.Module):
    """One vector of all pixels: what their mean attends to, itself among them.

    Attributes:
        num_heads: Number of heads; must divide the channels.
        dtype: The precision of the computation; softmax is float32.

    References:
        Radford et al., CLIP, arXiv:2103.00020, section 2.4.
    """

    num_heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
        """Pools ``[B, H, W, C]``.

        Raises:
            ValueError: If the heads do not divide the channels.
        """
        batch, height, width, channels = x.shape
        if channels % self.num_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must divide the channels of attention ({channels})"
            )
        pixels = x.reshape(batch, height * width, channels)
        tokens = jnp.concatenate([jnp.mean(pixels, axis=1, keepdims=True), pixels], axis=1)
        init = nn.initializers.normal(channels**-0.5)
        position = self.param("position", init, tokens.shape[1:], jnp.float32)
        tokens = tokens + position.astype(tokens.dtype)

        def project(inputs: Array, number: int, name: str) -> list[Array]:
            joined = nn.Dense(number * channels, dtype=self.dtype, name=name)(inputs)
            heads = (batch, joined.shape[1], self.num_heads, channels // self.num_heads)
            return [part.reshape(heads) for part in jnp.split(joined, number, axis=-1)]

        (query,) = project(tokens[:, :1], 1, "query")
        key, value = project(tokens, 2, "key_value")
        pooled = attention(query, key, value).reshape(batch, channels)
        return nn.Dense(channels, dtype=self.dtype, name="out")(pooled)


class UNetClassifier(nn.Module):
    """Classifies images at any noise: a U-Net's way down, its middle, and attention pooling.

    Attributes:
        num_classes: Number of classes; experiments may leave it None for that of their data.
        channels: Channels at the full resolution.
        multipliers: Channels at each resolution as multiples of ``channels``, from the full one.
        num_blocks: Residual blocks at each resolution.
        attention_sizes: Heights of the resolutions at which self-attention follows each residual
            block. The middle always has attention.
        num_heads: Number of heads of attention; must divide the channels where there is attention.
        num_groups: Number of groups of the group normalisation; must divide ``channels``.
        num_features: Width of the layer before the logits: the features.
        dtype: ``"float32"`` or ``"bfloat16"`` for the trunk; first and last layers stay float32.
        remat: What the backward pass computes again: see :class:`~genjax.nets.UNet`.

    References:
        Dhariwal and Nichol, arXiv:2105.05233, section 4.1 and appendix I.
    """

    num_classes: int | None = None
    channels: int = 64
    multipliers: Sequence[int] = (1, 2, 2)
    num_blocks: int = 2
    attention_sizes: Sequence[int] = (7, 8, 14, 16)
    num_heads: int = 1
    num_groups: int = 32
    num_features: int = 128
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"

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
            times: How noisy each is, in [0, 1], ``[B]``; None for 0, clean images.

        Returns:
            Logits ``[B, num_classes]`` and features ``[B, num_features]``, the inputs of the last
            layer, both float32.

        Raises:
            ValueError: If the number of classes is not given, or a size does not fit.
        """
        if self.num_classes is None:
            raise ValueError("num_classes is None: give the number of classes")
        # Sizes fit where those of the U-Net fit that it is the way down of.
        UNet(channels=self.channels, multipliers=self.multipliers).bottleneck_shape(x.shape[1:])
        if self.channels % self.num_groups:
            raise ValueError(
                f"num_groups ({self.num_groups}) must divide channels ({self.channels})"
            )
        dtype = jnp.dtype(self.dtype)
        times = jnp.zeros(x.shape[:1]) if times is None else times
        condition = NoiseAndLabel(
            self.channels, 4 * self.channels, 0.0, 1.0, None, name="condition"
        )(times, None).astype(dtype)
        layer = with_remat(Layer, self.remat, static_argnums=(4,))

        def block(h: Array, level: int, name: str, with_attention: bool) -> Array:
            return layer(
                channels=self.channels * self.multipliers[level],
                conditioning="scale_shift",
                with_attention=with_attention,
                num_heads=self.num_heads,
                num_groups=self.num_groups,
                dropout_rate=0.0,
                dtype=dtype,
                name=name,
            )(h, condition, None, True)

        h = Conv(self.channels, (3, 3), dtype=jnp.float32, name="conv_in")(x).astype(dtype)
        last = len(self.multipliers) - 1
        for level in range(last + 1):
            for i in range(self.num_blocks):
                h = block(h, level, f"down_{level}_{i}", h.shape[1] in self.attention_sizes)
            if level < last:
                h = Conv(
                    h.shape[-1], (3, 3), strides=(2, 2), dtype=dtype, name=f"downsample_{level}"
                )(h)  # fmt: skip
        h = block(h, last, "mid_0", True)
        h = block(h, last, "mid_1", False)
        h = nn.swish(GroupNorm(self.num_groups, dtype=jnp.float32, name="norm_out")(h))
        pooled = AttentionPool(self.num_heads, jnp.float32, name="pool")(h)
        features = nn.swish(nn.Dense(self.num_features, name="features")(pooled))
        return nn.Dense(self.num_classes, name="logits")(features), features
