"""How class labels enter the networks of a generative adversarial network."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from genjax.devices import mapped_axes
from genjax.nets.embeddings import check_label

SPECTRAL_STATS = "spectral_stats"
"""Variable collection of the power iterations of spectral normalisation."""


def apply_layer(
    layer: nn.Module, x: Array, *, spectral_norm: bool, train: bool, name: str
) -> Array:
    """Applies a layer, its weights divided by their largest singular value if asked.

    One power iteration from the vector kept as network state; the state moves on if ``train``. A
    kernel is taken as the matrix ``[taps * inputs, outputs]``, whose norm is not that of the
    convolution as an operator.

    Args:
        layer: Layer whose weights have two axes or more; biases are left alone.
        x: Input of the layer.
        spectral_norm: Whether to normalise.
        train: Whether to move the power iteration on.
        name: Name of the layer's state.

    Returns:
        The layer's output.

    References:
        Miyato et al., Spectral Normalization for GANs, arXiv:1802.05957, algorithm 1.
    """
    if not spectral_norm:
        return layer(x)  # type: ignore[operator]
    wrapped: Any = nn.SpectralNorm(layer, collection_name=SPECTRAL_STATS, name=f"{name}_norm")
    return wrapped(x, update_stats=train)


class BatchNorm(nn.Module):
    """Batch normalisation, with one gain and bias a class if there are classes.

    Attributes:
        num_classes: Number of classes, or None for one gain and bias.
        dtype: The precision of the computation. Statistics are float32.
        affine: Whether there are gain and bias at all.
    """

    num_classes: int | None = None
    dtype: Any = jnp.float32
    affine: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B *spatial C"],
        label: Int[Array, " B"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "B *spatial C"]:
        """Normalises each channel over the batch if ``train``, else by the running statistics.

        References:
            Conditional: Dumoulin et al., arXiv:1610.07629; as in Miyato and Koyama,
            arXiv:1802.05637, table 3.
        """
        per_class = self.num_classes is not None and label is not None
        # Flax's default momentum, 0.99, is a tenth of what these networks were published with.
        y = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            use_bias=self.affine and not per_class,
            use_scale=self.affine and not per_class,
            dtype=self.dtype,
            axis_name=cast(Any, mapped_axes()) or None,  # the whole batch's statistics
            name="norm",
        )(x)
        if not per_class:
            return y
        assert self.num_classes is not None
        channels, zeros = x.shape[-1], nn.initializers.zeros_init()
        gain = nn.Embed(self.num_classes, channels, embedding_init=zeros, name="gain")(label)
        bias = nn.Embed(self.num_classes, channels, embedding_init=zeros, name="bias")(label)
        rows = (x.shape[0], *(1,) * (x.ndim - 2), channels)
        # Embeddings start at zero, and so every class at a gain of 1 and a bias of 0.
        return y * (1.0 + gain.reshape(rows).astype(y.dtype)) + bias.reshape(rows).astype(y.dtype)


class LabelledLatent(nn.Module):
    """Joins a label to a generator's latent vector.

    Attributes:
        num_classes: Number of classes, or None for no labels.
        conditioning: ``"concatenation"`` appends the label one-hot; ``"embedding"`` appends a
            learned vector as long as the latent; anything else leaves the latent as it is, for
            generators that are conditioned further up.
    """

    num_classes: int | None
    conditioning: str

    @nn.compact
    def __call__(
        self, latent: Float[Array, "B Z"], label: Int[Array, " B"] | None
    ) -> Float[Array, "B Z2"]:
        """Returns the input of the generator's first layer.

        Raises:
            ValueError: If a label is missing, or given to an unconditional model.
        """
        check_label(self.num_classes, label)
        if self.num_classes is None:
            return latent
        if self.conditioning == "concatenation":
            extra = jax.nn.one_hot(label, self.num_classes, dtype=latent.dtype)
        elif self.conditioning == "embedding":
            extra = nn.Embed(self.num_classes, latent.shape[-1], name="label")(label)
        else:
            return latent
        return jnp.concatenate([latent, extra], axis=-1)


class LabelledInput(nn.Module):
    """Joins a label to a critic's input as one more channel or several.

    Attributes:
        num_classes: Number of classes, or None for no labels.
        conditioning: ``"concatenation"`` appends the label one-hot, at each position;
            ``"embedding"`` appends a learned map of one channel (for points, a learned vector of
            their length); anything else leaves the input as it is.
    """

    num_classes: int | None
    conditioning: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "B *event"], label: Int[Array, " B"] | None
    ) -> Float[Array, "B *event2"]:
        """Returns the input of the critic's first layer.

        Raises:
            ValueError: If a label is missing, or given to an unconditional model.
        """
        check_label(self.num_classes, label)
        if self.num_classes is None:
            return x
        spatial = x.shape[1:-1]
        if self.conditioning == "concatenation":
            extra = jax.nn.one_hot(label, self.num_classes, dtype=x.dtype)
            extra = extra.reshape(x.shape[0], *(1,) * len(spatial), self.num_classes)
            extra = jnp.broadcast_to(extra, (x.shape[0], *spatial, self.num_classes))
        elif self.conditioning == "embedding":
            shape = (*spatial, 1) if spatial else x.shape[1:]
            size = 1
            for axis in shape:
                size *= axis
            extra = nn.Embed(self.num_classes, size, name="label")(label)
            extra = extra.reshape(x.shape[0], *shape).astype(x.dtype)
        else:
            return x
        return jnp.concatenate([x, extra], axis=-1)


class CriticHead(nn.Module):
    r"""Last layer of a critic: linear, plus the inner product with a label's embedding.

    Attributes:
        num_outputs: Length of the output (features of an MMD GAN), or None for one number a row.
        num_classes: Number of classes, or None for no labels.
        conditioning: ``"projection"`` adds :math:`\langle e(y), \phi(x)\rangle`.
        spectral_norm: Whether to normalise the weights.
        kernel_init: Initialiser of the linear layer.
    """

    num_outputs: int | None
    num_classes: int | None
    conditioning: str
    spectral_norm: bool
    kernel_init: Any = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(
        self,
        flat: Float[Array, "B F"],
        pooled: Float[Array, "B C"],
        label: Int[Array, " B"] | None,
        *,
        train: bool,
    ) -> Array:
        """Maps features to outputs, float32.

        Args:
            flat: Features that the linear layer sees, ``[B, F]``.
            pooled: Features that the label's embedding is compared with, ``[B, C]``.
            label: Class ids, ``[B]``, or None.
            train: Whether spectral normalisation moves its power iteration on.

        Returns:
            Outputs, ``[B]``, or ``[B, num_outputs]``.

        Raises:
            ValueError: If a projection is asked of several outputs.

        References:
            Miyato and Koyama, cGANs with Projection Discriminator, arXiv:1802.05637, eq. 3.
        """
        projects = self.conditioning == "projection" and self.num_classes is not None
        if projects and self.num_outputs is not None:
            raise ValueError("conditioning 'projection' needs a critic with one output")
        dense = nn.Dense(self.num_outputs or 1, kernel_init=self.kernel_init, name="dense")
        # The head is float32, whatever the layers before it are.
        y = apply_layer(
            dense,
            flat.astype(jnp.float32),
            spectral_norm=self.spectral_norm,
            train=train,
            name="dense",
        )
        if self.num_outputs is not None:
            return y
        y = y[:, 0]
        if projects:
            assert label is not None and self.num_classes is not None
            embed = nn.Embed(self.num_classes, pooled.shape[-1], name="projection")
            vector = apply_layer(
                embed, label, spectral_norm=self.spectral_norm, train=train, name="projection"
            )
            # Eq. 3: the embedding's inner product with the features is added to their linear
            # function.
            y += jnp.sum(vector * pooled.astype(jnp.float32), axis=-1)
        return y
