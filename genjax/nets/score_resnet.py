"""The score network of variational diffusion models: a deep residual net at full resolution."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.attention import attention
from genjax.nets.convolution import Conv
from genjax.nets.dropout import Dropout
from genjax.nets.embeddings import (
    LabelEmbedding,
    check_conditioning,
    fourier_features,
    gamma_embedding,
)
from genjax.nets.normalization import GroupNorm
from genjax.nets.remat import Remat, with_remat

_ZEROS = nn.initializers.zeros_init()


class ResidualBlock(nn.Module):
    """Norm, swish, convolution, twice, with the condition added in between.

    Attributes:
        channels: Output channels; a linear shortcut is learned if the input has others.
        num_groups: Number of groups of the group normalisation.
        dropout_rate: Share of activations dropped before the second convolution, in [0, 1).
        dtype: The precision of the computation.
        in_loop: Whether the block runs inside ``lax.scan``.
    """

    channels: int
    num_groups: int
    dropout_rate: float
    dtype: Any
    in_loop: bool

    @nn.compact
    def __call__(self, x: Array, condition: Array, deterministic: bool) -> Array:
        """Maps ``[B, H, W, C]`` and a condition ``[B, D]`` to ``[B, H, W, channels]``."""
        h = nn.swish(GroupNorm(self.num_groups, dtype=self.dtype, name="norm_0")(x))
        h = Conv(
            self.channels, (3, 3), dtype=self.dtype, in_loop=self.in_loop, name="conv_0"
        )(h)  # fmt: skip
        h += nn.Dense(
            self.channels, use_bias=False, kernel_init=_ZEROS, dtype=self.dtype, name="condition"
        )(condition)[:, None, None, :]
        h = nn.swish(GroupNorm(self.num_groups, dtype=self.dtype, name="norm_1")(h))
        h = Dropout(self.dropout_rate)(h, deterministic=deterministic)
        h = Conv(
            self.channels,
            (3, 3),
            kernel_init=_ZEROS,
            dtype=self.dtype,
            in_loop=self.in_loop,
            name="conv_1",
        )(h)
        # On the way up the input holds a skip connection and is twice as wide.
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=self.dtype, name="shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """Residual single-head self-attention over all pixels; softmax in float32.

    Attributes:
        num_groups: Number of groups of the group normalisation.
        dtype: The precision of the computation.
    """

    num_groups: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[B, H, W, C]`` to the same shape."""
        batch, height, width, channels = x.shape
        h = GroupNorm(self.num_groups, dtype=self.dtype, name="norm")(x)
        h = h.reshape(batch, height * width, 1, channels)
        query, key, value = (
            nn.Dense(channels, dtype=self.dtype, name=name)(h) for name in ("query", "key", "value")
        )
        h = attention(query, key, value).reshape(x.shape)
        return x + nn.Dense(channels, kernel_init=_ZEROS, dtype=self.dtype, name="out")(h)


class Layer(nn.Module):
    """A residual block and, where asked for, attention after it.

    Takes and returns its activations twice over so that a stack of layers can be a ``lax.scan``,
    whose carry is the activation and whose inputs and outputs are the skip connections.

    Attributes:
        channels: Output channels.
        num_groups: Number of groups of the group normalisation.
        dropout_rate: Share of activations dropped in the residual block, in [0, 1).
        with_attention: Whether self-attention follows the residual block.
        dtype: The precision of the computation.
        in_loop: Whether the layer runs inside ``lax.scan``.
    """

    channels: int
    num_groups: int
    dropout_rate: float
    with_attention: bool
    dtype: Any
    in_loop: bool = False

    @nn.compact
    def __call__(
        self, x: Array, skip: Array | None, condition: Array, deterministic: bool
    ) -> tuple[Array, Array]:
        """Maps ``[B, H, W, C]``, joined by a skip connection if any, to ``[B, H, W, channels]``."""
        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        x = ResidualBlock(
            self.channels,
            self.num_groups,
            self.dropout_rate,
            self.dtype,
            self.in_loop,
            name="residual",
        )(x, condition, deterministic)
        if self.with_attention:
            x = AttentionBlock(self.num_groups, self.dtype, name="attention")(x)
        return x, x


class ScoreResNet(nn.Module):
    r"""Predicts the noise in ``z_t``, as a correction added to ``z_t`` itself.

    The network never changes resolution: ``num_layers`` layers down, two blocks around a
    self-attention, ``num_layers + 1`` layers up which take the activations of the way down in
    reverse. It is conditioned on gamma(t), not on t.

    Attributes:
        channels: Channels of every layer; 128 for CIFAR-10 in the paper.
        num_layers: Layers on the way down; 32 in the paper.
        dropout_rate: Share of activations dropped inside the residual blocks, in [0, 1).
        attention: ``"middle"`` or ``"everywhere"`` (after every residual block as well).
        num_groups: Number of groups of the group normalisation; must divide ``channels``.
        fourier_exponents: Exponents of the Fourier features of ``z_t``; (6, 7) for 8-bit data.
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        num_classes: Number of class labels, or None for an unconditional model.
        context_size: Number of further real-valued conditioning features (the official model takes
            one: whether the image was augmented).
        dtype: ``"float32"`` or ``"bfloat16"`` for the trunk; first and last layer stay float32.
        scan_layers: Run the layers as two ``lax.scan`` over stacked parameters: compiles in a time
            that does not grow with depth. Faster to leave off on CPU.
        remat: What the backward pass computes again: ``"none"``, ``"dots"`` (all but the results of
            matrix products and convolutions) or ``"full"`` (each layer from its input).

    References:
        Kingma et al., Variational Diffusion Models, arXiv:2107.00630, appendix B.1 and C, and
        google-research/vdm, model_vdm.py, for what the paper leaves open.
    """

    channels: int = 128
    num_layers: int = 32
    dropout_rate: float = 0.1
    attention: Literal["middle", "everywhere"] = "middle"
    num_groups: int = 32
    fourier_exponents: tuple[int, ...] = (6, 7)
    gamma_min: float = -13.3
    gamma_max: float = 5.0
    num_classes: int | None = None
    context_size: int = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan_layers: bool = False
    remat: Remat = "none"

    @property
    def event_rank(self) -> int:
        """Axes of one example: height, width, channels."""
        return 3

    @nn.compact
    def __call__(
        self,
        z_t: Float[Array, "B H W C"],
        gamma_t: Float[Array, " B"],
        label: Int[Array, " B"] | None = None,
        context: Float[Array, "B K"] | None = None,
        *,
        deterministic: bool = True,
    ) -> Float[Array, "B H W C"]:
        """Estimates the noise.

        Args:
            z_t: Latent, ``[B, H, W, C]``.
            gamma_t: Negative log signal-to-noise ratio, ``[B]``.
            label: Class ids, ``[B]``, -1 for no label; needed if and only if ``num_classes`` is
                set.
            context: Conditioning features, ``[B, context_size]``; zeros if left out.
            deterministic: Turns dropout off.

        Returns:
            ``noise_hat``, float32, ``[B, H, W, C]``.

        Raises:
            ValueError: If ranks, labels or sizes do not fit.
        """
        self._check(z_t, label)
        dtype = jnp.dtype(self.dtype)
        condition = self._condition(gamma_t, label, context).astype(dtype)

        features = jnp.concatenate([z_t, fourier_features(z_t, self.fourier_exponents)], axis=-1)
        h = Conv(self.channels, (3, 3), dtype=jnp.float32, name="conv_in")(features).astype(dtype)

        def layer(name: str, with_attention: bool) -> Layer:
            return self._remat(Layer)(**self._layer_fields(with_attention), name=name)

        everywhere = self.attention == "everywhere"
        if self.scan_layers:
            stack = self._scanned("down", self.num_layers, everywhere)
            # The way up takes the skips from the last to the first, which is conv_in's: one more
            # than layers on the way down.
            first = h
            h, skips = stack(h, None, condition, deterministic)
            skips = jnp.concatenate([first[None], skips])[::-1]
        else:
            skip_list = [h]
            for i in range(self.num_layers):
                h, _ = layer(f"down_{i}", everywhere)(h, None, condition, deterministic)
                skip_list.append(h)

        h, _ = layer("mid_0", True)(h, None, condition, deterministic)
        h, _ = layer("mid_1", False)(h, None, condition, deterministic)

        if self.scan_layers:
            stack = self._scanned("up", self.num_layers + 1, everywhere)
            h, _ = stack(h, skips, condition, deterministic)
        else:
            for i in range(self.num_layers + 1):
                h, _ = layer(f"up_{i}", everywhere)(h, skip_list.pop(), condition, deterministic)

        h = nn.swish(GroupNorm(self.num_groups, dtype=jnp.float32, name="norm_out")(h))
        correction = Conv(
            z_t.shape[-1], (3, 3), kernel_init=_ZEROS, dtype=jnp.float32, name="conv_out"
        )(h)
        # Zero at the start: the first estimate of the noise is z_t itself.
        return z_t + correction

    def _check(self, z_t: Array, label: Array | None) -> None:
        if z_t.ndim != 4:
            raise ValueError(f"expected images [B, H, W, C], got shape {z_t.shape}")
        for name in ("channels", "num_groups", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.context_size < 0:
            raise ValueError(f"context_size must not be negative, got {self.context_size}")
        check_conditioning(self.gamma_min, self.gamma_max, self.num_classes, label)
        if self.channels % self.num_groups:
            raise ValueError(
                f"num_groups ({self.num_groups}) must divide channels ({self.channels})"
            )

    def _condition(self, gamma_t: Array, label: Array | None, context: Array | None) -> Array:
        width = 4 * self.channels
        embedding = gamma_embedding(gamma_t, self.gamma_min, self.gamma_max, self.channels)
        if self.context_size:
            if context is None:
                context = jnp.zeros((gamma_t.shape[0], self.context_size))
            embedding = jnp.concatenate([embedding, context], axis=-1)
        condition = nn.swish(nn.Dense(width, name="condition_0")(embedding))
        if label is not None:
            assert self.num_classes is not None
            condition += LabelEmbedding(self.num_classes, width, name="label")(label)
        return nn.swish(nn.Dense(width, name="condition_1")(condition))

    def _layer_fields(self, with_attention: bool) -> dict[str, Any]:
        return dict(
            channels=self.channels,
            num_groups=self.num_groups,
            dropout_rate=self.dropout_rate,
            with_attention=with_attention,
            dtype=jnp.dtype(self.dtype),
        )

    def _remat(self, layer: type[Layer]) -> Any:
        return with_remat(layer, self.remat, prevent_cse=not self.scan_layers, static_argnums=(4,))

    def _scanned(self, name: str, length: int, with_attention: bool) -> Any:
        # Parameters get a leading axis of layers. Skips come one a layer; condition and flag are
        # shared.
        return nn.scan(
            self._remat(Layer),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast),
            length=length,
        )(**self._layer_fields(with_attention), in_loop=True, name=name)
