"""Features of scalars and pixels that networks take in."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def sinusoidal_embedding(
    position: Float[Array, " B"], num_features: int, *, max_period: float = 10_000.0
) -> Float[Array, "B F"]:
    """Sines, then cosines, of a position at geometrically spaced frequencies.

    Args:
        position: Positions, any real numbers, ``[B]``.
        num_features: Even number of features, at least 4.
        max_period: The slowest sine has the period ``2 pi max_period``; the fastest ``2 pi``.

    Returns:
        Features in [-1, 1], float32, ``[B, num_features]``.

    Raises:
        ValueError: If ``num_features`` is odd or below 4.

    Example:
        >>> sinusoidal_embedding(jnp.zeros(1), 4)
        Array([[0., 0., 1., 1.]], dtype=float32)

    References:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762, section 3.5, with the layout
        and spacing of google-research/vdm.
    """
    if num_features % 2 or num_features < 4:
        raise ValueError(f"num_features must be even and at least 4, got {num_features}")
    half = num_features // 2
    # From 1 down to 1 / max_period, both included, in equal steps of the log.
    frequencies = jnp.exp(
        jnp.arange(half, dtype=jnp.float32) * (-math.log(max_period) / (half - 1))
    )
    angles = position.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def gamma_embedding(
    gamma_t: Float[Array, " B"], gamma_min: float, gamma_max: float, num_features: int
) -> Float[Array, "B F"]:
    """Sinusoidal features of how noisy a latent is.

    Args:
        gamma_t: Negative log signal-to-noise ratio, or any other measure of noise, ``[B]``.
        gamma_min: Gamma that is mapped to the first position, 0.
        gamma_max: Gamma that is mapped to the last position, 1000.
        num_features: Even number of features, at least 4.

    Returns:
        Features in [-1, 1], float32, ``[B, num_features]``.

    Raises:
        ValueError: If ``num_features`` is odd or below 4.
    """
    position = (gamma_t - gamma_min) / (gamma_max - gamma_min)
    # Scaled to the range of steps, 0 to 1000, that the embedding's frequencies are made for.
    return sinusoidal_embedding(1000.0 * position, num_features)


class LabelEmbedding(nn.Module):
    """A learned vector for each class, and the zero vector for no class.

    Parameters are those of :class:`flax.linen.Embed`. A network whose labels are dropped at random
    in training is an unconditional model, too: that of the label -1.

    Attributes:
        num_classes: Number of classes.
        features: Length of a vector.

    References:
        Ho and Salimans, Classifier-Free Diffusion Guidance, arXiv:2207.12598, algorithm 1.
    """

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, label: Int[Array, " B"]) -> Float[Array, "B F"]:
        """Looks vectors up.

        Args:
            label: Class ids, ``[B]``; any negative number means that an example has no label.

        Returns:
            Vectors, ``[B, features]``. No gradient goes from the zero vector to the table.
        """
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        shape = (self.num_classes, self.features)
        table = self.param("embedding", init, shape, jnp.float32)
        rows = jnp.take(table, jnp.maximum(label, 0), axis=0)
        return jnp.where(label[:, None] >= 0, rows, jnp.zeros_like(rows))


class NoiseAndLabel(nn.Module):
    """What a score network is conditioned on, besides its input, as one vector an example.

    Attributes:
        num_features: Number of sinusoidal features of gamma.
        width: Length of the vector.
        gamma_min: Gamma that is mapped to the first position.
        gamma_max: Gamma that is mapped to the last position.
        num_classes: Number of class labels, or None for an unconditional model.
    """

    num_features: int
    width: int
    gamma_min: float
    gamma_max: float
    num_classes: int | None

    @nn.compact
    def __call__(
        self,
        gamma_t: Float[Array, " B"],
        label: Int[Array, " B"] | None,
        features: Float[Array, "B F"] | None = None,
        vector: Float[Array, "B V"] | None = None,
    ) -> Float[Array, "B W"]:
        """Maps what is told to one vector.

        Args:
            gamma_t: Measure of noise, ``[B]``.
            label: Class ids, ``[B]``, of which a negative one means no label; None without classes.
            features: Further numbers of any kind, ``[B, F]``; None for none.
            vector: A vector of each example, ``[B, V]``, of which zeros tell nothing; None for
                none.

        Returns:
            The vector, ``[B, width]``.
        """
        noise = gamma_embedding(gamma_t, self.gamma_min, self.gamma_max, self.num_features)
        h = nn.swish(nn.Dense(self.width, name="dense_0")(noise))
        if label is not None:
            assert self.num_classes is not None
            h += LabelEmbedding(self.num_classes, self.width, name="label")(label)
        if features is not None:
            h += nn.Dense(self.width, name="features")(features)
        if vector is not None:
            h += nn.Dense(self.width, use_bias=False, name="vector")(vector)
        return nn.swish(nn.Dense(self.width, name="dense_1")(h))


def fourier_features(
    z: Float[Array, "B *event C"], exponents: tuple[int, ...]
) -> Float[Array, "B *event F"]:
    r"""Sines and cosines of :math:`2 \pi 2^k z` for each exponent ``k``: the fine detail of pixels.

    Computed in float32 whatever the network's precision: at k = 7 the angle moves by a full turn
    for a change of ``z`` by 1/128, which bfloat16 cannot hold.

    Args:
        z: Latent, ``[B, *event, C]``.
        exponents: Powers of two ``k``. Grey levels ``2/V`` apart suggest k near ``log2(V) - 1``.

    Returns:
        ``[B, *event, 2 * C * len(exponents)]``: all sines, then all cosines, channel-major.

    Example:
        >>> fourier_features(jnp.zeros((1, 2)), (0, 1)).shape
        (1, 8)

    References:
        Kingma et al., arXiv:2107.00630, appendix C, where n = k + 1.
    """
    scales = jnp.array([2.0 * math.pi * 2.0**k for k in exponents], jnp.float32)
    angles = (z.astype(jnp.float32)[..., None] * scales).reshape(*z.shape[:-1], -1)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def check_conditioning(
    gamma_min: float, gamma_max: float, num_classes: int | None, label: Array | None
) -> None:
    """Refuses conditioning of a score network that cannot be what was meant.

    Args:
        gamma_min: Gamma that the conditioning maps to 0.
        gamma_max: Gamma that the conditioning maps to 1.
        num_classes: Number of classes, or None.
        label: Class ids, or None.

    Raises:
        ValueError: If ``gamma_min`` is not below ``gamma_max``, or labels do not fit classes.
    """
    if not gamma_min < gamma_max:
        raise ValueError(f"gamma_min must be below gamma_max, got {gamma_min} and {gamma_max}")
    check_label(num_classes, label)


def check_label(num_classes: int | None, label: Array | None) -> None:
    """Refuses labels without classes, and classes without labels.

    Args:
        num_classes: Number of classes, or None.
        label: Class ids, or None.

    Raises:
        ValueError: If one of the two is None and the other is not.
    """
    if (label is None) != (num_classes is None):
        state = "missing" if label is None else "given"
        raise ValueError(f"num_classes is {num_classes}, but the label is {state}")


def check_context(context_size: int | None, context: Array | None) -> None:
    """Refuses tokens of another width than the network has, and tokens without it or it without.

    Args:
        context_size: Width of the tokens that the network takes, or None.
        context: Tokens, ``[B, T, K]``, or None.

    Raises:
        ValueError: If the tokens are not those that the network takes.
    """
    if (context is None) != (context_size is None):
        state = "missing" if context is None else "given"
        raise ValueError(f"context_size is {context_size}, but the context is {state}")
    if context is not None and (context.ndim != 3 or context.shape[-1] != context_size):
        raise ValueError(f"expected context [B, T, {context_size}], got shape {context.shape}")


def check_output(z_t: Array, out_channels: int | None, add_input: bool) -> None:
    """Refuses an output that the latent cannot be added to.

    Args:
        z_t: The latent, channels last.
        out_channels: Channels of the output, or None for those of the latent.
        add_input: Whether the latent is added to the output.

    Raises:
        ValueError: If ``out_channels`` is below 1, or not that of the latent where it is added.
    """
    if out_channels is not None and out_channels < 1:
        raise ValueError(f"out_channels must be at least 1, got {out_channels}")
    if add_input and out_channels not in (None, z_t.shape[-1]):
        raise ValueError(
            f"add_input adds z_t of {z_t.shape[-1]} channels to an output of out_channels "
            f"{out_channels}: leave out one of the two"
        )
