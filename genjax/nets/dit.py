"""A diffusion transformer: a vision transformer whose norms are conditioned."""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.attention import attention
from genjax.nets.embeddings import (
    NoiseAndLabel,
    check_conditioning,
    check_context,
    check_output,
    fourier_features,
)
from genjax.nets.remat import Remat, with_remat

_ZEROS = nn.initializers.zeros_init()
_NUM_FEATURES = 256  # of gamma, whatever the width of the network, as in the paper's networks


class Block(nn.Module):
    """Self-attention, attention to a context if there is one, and a perceptron.

    The condition gives scale and shift of the input of self-attention and perceptron and a gate of
    their output, all of which start at zero: at first a block is the identity.

    Attributes:
        num_heads: Number of heads; must divide the width of a token.
        mlp_ratio: Width of the perceptron's hidden layer as a multiple of that of a token.
        dtype: The precision of the computation; norms, scales, shifts and gates are float32.
    """

    num_heads: int
    mlp_ratio: float
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Array, condition: Array, context: Array | None
    ) -> tuple[Array, None]:  # None: what a scan would stack
        """Maps tokens ``[B, T, D]`` and a condition ``[B, D]`` to tokens."""
        size = x.shape[-1]
        numbers = nn.Dense(6 * size, kernel_init=_ZEROS, name="modulation")(condition)
        scale_0, shift_0, gate_0, scale_1, shift_1, gate_1 = jnp.split(numbers[:, None], 6, axis=-1)

        h = modulated(x, scale_0, shift_0, self.dtype)
        joined = self._dense(3 * size, "query_key_value")(h)
        x = self._add(x, gate_0 * self._attend("attention_out", *jnp.split(joined, 3, axis=-1)))
        if context is not None:
            query = self._dense(size, "context_query")(nn.LayerNorm(name="context_norm")(x))
            key, value = jnp.split(self._dense(2 * size, "context_key_value")(context), 2, axis=-1)
            x = self._add(x, self._attend("context_out", query, key, value, kernel_init=_ZEROS))
        h = modulated(x, scale_1, shift_1, self.dtype)
        h = nn.gelu(self._dense(int(self.mlp_ratio * size), "mlp_in")(h))
        return self._add(x, gate_1 * self._dense(size, "mlp_out")(h)), None

    def _dense(self, size: int, name: str, **options: Any) -> nn.Dense:
        return nn.Dense(size, dtype=self.dtype, name=name, **options)

    def _attend(self, name: str, query: Array, key: Array, value: Array, **options: Any) -> Array:
        """Multi-head attention and the linear map after it, float32."""
        heads = (
            a.reshape(*a.shape[:2], self.num_heads, a.shape[-1] // self.num_heads)
            for a in (query, key, value)
        )
        mixed = attention(*heads).reshape(query.shape)
        return self._dense(query.shape[-1], name, **options)(mixed).astype(jnp.float32)

    def _add(self, x: Array, branch: Array) -> Array:
        return (x.astype(branch.dtype) + branch).astype(self.dtype)


def modulated(x: Array, scale: Array, shift: Array, dtype: Any) -> Array:
    """Tokens normalised, scaled by one plus a relative scale, and shifted.

    Args:
        x: Tokens, ``[B, T, D]``.
        scale: Relative scale, float32, ``[B, 1, D]``.
        shift: Shift, float32, ``[B, 1, D]``.
        dtype: The precision of the result.

    Returns:
        Tokens, ``[B, T, D]``.
    """
    norm = nn.LayerNorm(use_scale=False, use_bias=False, dtype=jnp.float32)
    return (norm(x) * (1.0 + scale) + shift).astype(dtype)


def grid_positions(height: int, width: int, num_features: int) -> Float[Array, "T F"]:
    """Sines and cosines of column and row of each place of a grid, row by row.

    Args:
        height: Number of rows.
        width: Number of columns.
        num_features: Number of features, a multiple of 4.

    Returns:
        Sines and cosines of the column, then of the row, ``[height * width, num_features]``.

    Raises:
        ValueError: If ``num_features`` does not divide by 4.

    Example:
        >>> grid_positions(1, 2, 4)[0]
        Array([0., 1., 0., 1.], dtype=float32)

    References:
        Dosovitskiy et al., arXiv:2010.11929, appendix D.4, with the sines of Vaswani et al.,
        arXiv:1706.03762, section 3.5, along each axis.
    """
    if num_features % 4:
        raise ValueError(f"expected a multiple of 4 features of a position, got {num_features}")
    quarter = num_features // 4
    rates = 10_000.0 ** (-jnp.arange(quarter, dtype=jnp.float32) / quarter)
    row, column = jnp.divmod(jnp.arange(height * width), width)
    angles = [place.astype(jnp.float32)[:, None] * rates for place in (column, row)]
    return jnp.concatenate([f(a) for a in angles for f in (jnp.sin, jnp.cos)], axis=-1)


class DiT(nn.Module):
    """Predicts a function of a noisy image: the noise in it, the image itself, a velocity.

    Patches are tokens of a transformer with fixed positions. The condition (gamma and the label)
    scales and shifts after each norm and gates each residual branch. Gates and the last layer start
    at zero.

    Attributes:
        patch_size: Height and width of a patch; must divide height and width of the images.
        hidden_size: Width of a token, a multiple of 4.
        num_layers: Number of transformer blocks.
        num_heads: Number of heads of attention; must divide ``hidden_size``.
        mlp_ratio: Width of the perceptrons' hidden layers as a multiple of ``hidden_size``.
        fourier_exponents: Exponents of the Fourier features of ``z_t``; () for none.
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        num_classes: Number of class labels, or None for an unconditional model.
        context_size: Width of the tokens of a context that each block attends to, or None for no
            context.
        out_channels: Channels of the output; None for those of ``z_t``.
        add_input: Whether the output is a correction that is added to ``z_t``, which is a good
            first estimate of the noise.
        dtype: ``"float32"`` or ``"bfloat16"`` for the trunk; first and last layer stay float32.
        scan_layers: Run the blocks as a ``lax.scan`` over stacked parameters: compiles in a time
            that does not grow with depth.
        remat: What the backward pass computes again: ``"none"``, ``"dots"`` (all but the results of
            matrix products) or ``"full"`` (each block from its input).

    References:
        Peebles and Xie, Scalable Diffusion Models with Transformers, arXiv:2212.09748, section 3.2:
        the block "adaLN-Zero" with the decoder of the same section; cross-attention as in its
        figure 3.
    """

    patch_size: int = 2
    hidden_size: int = 384
    num_layers: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    fourier_exponents: Sequence[int] = ()
    gamma_min: float = -13.3
    gamma_max: float = 5.0
    num_classes: int | None = None
    context_size: int | None = None
    out_channels: int | None = None
    add_input: bool = False
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
        context: Float[Array, "B T K"] | None = None,
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
            features: Numbers that the condition depends on besides, ``[B, F]``, such as features of
                the noise on what the network is told; None for none.
            vector: A vector of each example, such as an embedding of the image, ``[B, V]``, which
                is added to what gamma and label give; zeros tell nothing. None for none.
            deterministic: Has no effect: there is no dropout.

        Returns:
            The estimate, float32, ``[B, H, W, out_channels]``.

        Raises:
            ValueError: If ranks, labels, contexts or sizes do not fit.
        """
        del deterministic
        self._check(z_t, label, context)
        dtype = jnp.dtype(self.dtype)
        batch, height, width, channels = z_t.shape
        patch, size = self.patch_size, self.hidden_size
        grid = height // patch, width // patch
        condition = NoiseAndLabel(
            _NUM_FEATURES, size, self.gamma_min, self.gamma_max, self.num_classes, name="condition"
        )(gamma_t, label, features, vector)
        if context is not None:
            context = context.astype(dtype)

        pixels = jnp.concatenate(
            [z_t, fourier_features(z_t, tuple(self.fourier_exponents))], axis=-1
        )
        patches = pixels.reshape(batch, grid[0], patch, grid[1], patch, -1).swapaxes(2, 3)
        h = nn.Dense(size, name="dense_in")(patches.reshape(batch, grid[0] * grid[1], -1))
        h = (h + grid_positions(*grid, size)).astype(dtype)
        fields = dict(num_heads=self.num_heads, mlp_ratio=self.mlp_ratio, dtype=dtype)
        block = with_remat(Block, self.remat, prevent_cse=not self.scan_layers)
        if self.scan_layers:
            # Parameters get a leading axis of layers; condition and context are shared.
            blocks = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=(nn.broadcast, nn.broadcast),
                length=self.num_layers,
            )
            h, _ = blocks(**fields, name="blocks")(h, condition, context)
        else:
            for i in range(self.num_layers):
                h, _ = block(**fields, name=f"block_{i}")(h, condition, context)

        numbers = nn.Dense(2 * size, kernel_init=_ZEROS, name="modulation_out")(condition)
        scale, shift = jnp.split(numbers[:, None], 2, axis=-1)
        h = modulated(h, scale, shift, jnp.float32)
        out = self.out_channels or channels
        y = nn.Dense(patch * patch * out, kernel_init=_ZEROS, name="dense_out")(h)
        y = y.reshape(batch, *grid, patch, patch, out).swapaxes(2, 3).reshape(*z_t.shape[:3], out)
        return z_t + y if self.add_input else y

    def _check(self, z_t: Array, label: Array | None, context: Array | None) -> None:
        if z_t.ndim != 4:
            raise ValueError(f"expected images [B, H, W, C], got shape {z_t.shape}")
        for name in ("patch_size", "hidden_size", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.mlp_ratio * self.hidden_size < 1:
            raise ValueError(f"mlp_ratio must be above 0, got {self.mlp_ratio}")
        height, width = z_t.shape[1:3]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"patch_size ({self.patch_size}) must divide height and width of the images "
                f"({height}x{width})"
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must divide hidden_size ({self.hidden_size})"
            )
        check_conditioning(self.gamma_min, self.gamma_max, self.num_classes, label)
        check_context(self.context_size, context)
        check_output(z_t, self.out_channels, self.add_input)
