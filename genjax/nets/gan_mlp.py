"""Perceptrons: a generator of any rows, and a critic of points."""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.nets.conditioning import (
    BatchNorm,
    CriticHead,
    LabelledInput,
    LabelledLatent,
    apply_layer,
)
from genjax.nets.dense import kernel_init_of
from genjax.nets.minibatch import MinibatchDiscrimination
from genjax.nets.weight_norm import WeightNormDense

_PIECES = 5
"""Linear pieces of a maxout unit."""


class MLPGenerator(nn.Module):
    """Multilayer perceptron from latents to rows.

    Attributes:
        event_shape: Shape of a row, such as ``(D,)`` of points.
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers.
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: How labels enter: see :class:`~genjax.nets.conditioning.LabelledLatent`.
        activation: What ends every hidden layer: ReLU, or its smooth form.
        norm: What stands before it: ``"batch"`` (without gain and bias), ``"affine_batch"`` (with
            both), or ``"none"``.
        repeats_latent: Whether a linear function of the latent is added to every layer but the
            first and the last, before the norm.
        output: ``"linear"``; or, for grey levels, ``"tanh"``; ``"sigmoid"``, which is spread over
            [-1, 1], too, but half as steep; or ``"softplus"`` from -1 up, which is not flat where
            it is too bright.
        output_bias: Whether the last layer has a bias; one with weights of norm 1 has.
        kernel_std: Standard deviation of weights at first, as 0.02 for BiGAN; None for one by the
            number of inputs, with which steps of one size turn the weights of a short latent less.
            Not of a last layer whose weights have norm 1.
        output_weight_norm: Whether each output's weights have norm 1, times a learned scale, so
            that large steps turn them.

    References:
        Donahue et al., arXiv:1605.09782, for norm and repeated latents: the generator of MNIST.
        Salimans et al., arXiv:1606.03498: weights of norm 1 stand in the authors' code for MNIST.
    """

    event_shape: tuple[int, ...]
    hidden_size: int = 128
    num_layers: int = 3
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding"] = "embedding"
    activation: Literal["relu", "softplus"] = "relu"
    norm: Literal["batch", "affine_batch", "none"] = "none"
    repeats_latent: bool = False
    output: Literal["linear", "tanh", "sigmoid", "softplus"] = "linear"
    output_bias: bool = True
    kernel_std: float | None = None
    output_weight_norm: bool = False

    @property
    def event_rank(self) -> int:
        """Axes of one example."""
        return len(self.event_shape)

    @nn.compact
    def __call__(
        self,
        latent: Float[Array, "B Z"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "B *event"]:
        """Generates rows.

        Args:
            latent: Draws of the latent distribution, ``[B, Z]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Whether to normalise by the batch, else by the running statistics.

        Returns:
            Rows, ``[B, *event]``.

        Raises:
            ValueError: If labels do not fit.
        """
        activate = {"relu": nn.relu, "softplus": nn.softplus}[self.activation]
        z = LabelledLatent(self.num_classes, self.conditioning, name="condition")(latent, label)
        dense = functools.partial(nn.Dense, kernel_init=kernel_init_of(self.kernel_std))
        h = z
        for i in range(self.num_layers):
            # The norm takes away what a bias adds.
            h = dense(self.hidden_size, use_bias=self.norm == "none", name=f"dense_{i}")(h)
            if i and self.repeats_latent:
                h = h + dense(self.hidden_size, use_bias=False, name=f"latent_{i}")(z)
            if self.norm != "none":
                affine = self.norm == "affine_batch"
                h = BatchNorm(affine=affine, name=f"norm_{i}")(h, train=train)
            h = activate(h)
        size = math.prod(self.event_shape)
        if self.output_weight_norm:
            y = WeightNormDense(size, name="dense_out")(h)
        else:
            y = dense(size, use_bias=self.output_bias, name="dense_out")(h)
        y = y.reshape(-1, *self.event_shape)
        if self.output == "linear":
            return y
        if self.output == "tanh":
            return jnp.tanh(y)
        return 2.0 * (nn.sigmoid(y) if self.output == "sigmoid" else nn.softplus(y)) - 1.0


class MLPCritic(nn.Module):
    """Multilayer perceptron from points to a score.

    Attributes:
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers.
        activation: What follows each of them: LeakyReLU of slope 0.2, or the largest of five linear
            pieces for each number (maxout).
        num_minibatch_kernels: Kernels of minibatch discrimination before the last layer
            (:class:`~genjax.nets.minibatch.MinibatchDiscrimination`); 0 for none.
        num_outputs: Length of the output (features of an MMD GAN), or None for one number a row.
        spectral_norm: Whether to normalise the weights of every layer.
        num_classes: Number of classes, or None for an unconditional model.
        conditioning: How labels enter: see :class:`~genjax.nets.conditioning.LabelledInput` and,
            for ``"projection"``, :class:`~genjax.nets.conditioning.CriticHead`.
    """

    hidden_size: int = 128
    num_layers: int = 3
    activation: Literal["leaky_relu", "maxout"] = "leaky_relu"
    num_minibatch_kernels: int = 0
    num_outputs: int | None = None
    spectral_norm: bool = False
    num_classes: int | None = None
    conditioning: Literal["concatenation", "embedding", "projection"] = "projection"

    @property
    def event_rank(self) -> int:
        """Axes of one example: its coordinates."""
        return 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B D"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool = False,
    ) -> Array:
        """Scores points.

        Args:
            x: Points, ``[B, D]``.
            label: Class ids, ``[B]``; needed if and only if ``num_classes`` is set.
            train: Whether spectral normalisation moves its power iterations on.

        Returns:
            Outputs, ``[B]``, or ``[B, num_outputs]``.

        Raises:
            ValueError: If ranks or labels do not fit.
        """
        if x.ndim != 2:
            raise ValueError(f"expected points [B, D], got shape {x.shape}")
        pieces = _PIECES if self.activation == "maxout" else 1
        h = LabelledInput(self.num_classes, self.conditioning, name="condition")(x, label)
        for i in range(self.num_layers):
            name = f"dense_{i}"
            dense = nn.Dense(pieces * self.hidden_size, name=name)
            h = apply_layer(dense, h, spectral_norm=self.spectral_norm, train=train, name=name)
            if pieces > 1:
                h = jnp.max(h.reshape(h.shape[0], self.hidden_size, pieces), axis=-1)
            else:
                h = nn.leaky_relu(h, 0.2)
        if self.num_minibatch_kernels:
            h = MinibatchDiscrimination(self.num_minibatch_kernels, name="minibatch")(h)
        head = CriticHead(
            self.num_outputs, self.num_classes, self.conditioning, self.spectral_norm, name="head"
        )
        return head(h, h, label, train=train).astype(jnp.float32)
